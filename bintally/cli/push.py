"""The verb `push`."""

from pathlib import Path
from typing import Annotated

import typer

from bintally.cli import console

commands = typer.Typer()


@commands.command()
def push(
    split: Annotated[
        Path,
        typer.Argument(help="What `bintally split` wrote, or the folder that it lies in.", show_default=False),
    ],
    to: Annotated[
        str, typer.Argument(help="s3://bucket/prefix, file:///folder, or a folder's path.", show_default=False)
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove photos of earlier pushes that this split does not have.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of another S3-compatible service, as in http://127.0.0.1:9000.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of the bucket.")] = None,
    in_flight: Annotated[int | None, typer.Option(help="How many photos are under way at once (32).")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set push.… or store.… settings.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send a split to a bucket: photos in a folder a part and count, train/3/00523.jpg, and its manifest.

    Every object's bytes are checked after they were sent. What the bucket has already is not sent again, and nothing
    is removed unless --prune says so. Managed image jobs and `bintally train s3://…` read what comes of it.

    Example: bintally push bins/split.parquet s3://my-bucket/bins
    """
    from bintally.data.push import PushSettings
    from bintally.data.push import push as push_split
    from bintally.data.source import open_folder
    from bintally.data.store import StoreSettings, open_store
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assign or [])
    check_tables(tables, {"push": PushSettings, "store": StoreSettings}, "--set")
    named = {"endpoint": endpoint, "region": region}
    store_settings = fill(StoreSettings, "store", flags=named | {**tables.get("store", {})})
    settings = fill(PushSettings, "push", flags={"in_flight": in_flight} | {**tables.get("push", {})})
    manifest = open_folder(split, progress=console.Bar())
    store = open_store(to, store_settings, create=True)
    report = push_split(manifest, store, prune=prune, settings=settings, progress=console.Bar())
    if as_json:
        console.out_json(report.as_json())
        return
    console.out(report.line())
    if report.stale:
        console.note(
            f"note: {len(report.stale):,} objects in the parts' folders are no part of this split, as "
            f"{report.stale[0]}: --prune removes them"
        )
