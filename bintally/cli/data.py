"""The verbs of `data`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from bintally.cli import console

commands = typer.Typer()


@commands.command()
def fetch(
    source: Annotated[
        str, typer.Argument(help="s3://bucket[/prefix], https://host/path, file:///folder, or a folder's path.")
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder that gets bin-images/, metadata/ and fetch-report.json.")],
    list_file: Annotated[
        Path | None, typer.Option("--list", help="Take the photos of a list in the course's format (file_list.json).")
    ] = None,
    ids: Annotated[
        str | None, typer.Option(help="Take these ids: 1-1000, or 00001-00099,523. Leading zeros count.")
    ] = None,
    ids_file: Annotated[Path | None, typer.Option(help="Take the ids in this file, one or more a line.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask for at most so many photos.")] = None,
    per_count: Annotated[
        int | None, typer.Option(min=1, help="Ask for at most so many photos of each expected quantity.")
    ] = None,
    write_list: Annotated[
        Path | None, typer.Option(help="Write what is there of the chosen photos as a list in the course's format.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of another S3-compatible service, as in http://127.0.0.1:9000.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of the bucket.")] = None,
    unsigned: Annotated[
        bool | None,
        typer.Option("--unsigned/--signed", help="Ask without credentials. By default for aft-vbi-pds only."),
    ] = None,
    in_flight: Annotated[int | None, typer.Option(help="How many requests are under way at once (64).")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail when anything is missing or malformed, after all was tried.")
    ] = False,
    manifest: Annotated[
        bool, typer.Option("--manifest/--no-manifest", help="Write manifest.parquet at the end.")
    ] = True,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set fetch.… or store.… settings.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Take photos with their records out of an object store.

    What is whole already is not asked for again, so the same command goes on after a kill. Missing and malformed
    objects are listed in fetch-report.json and stop nothing.

    Example: bintally fetch s3://aft-vbi-pds --to bins --list file_list.json --per-count 200
    """
    from bintally.data import choose, layout
    from bintally.data import fetch as fetching
    from bintally.data.outcome import REPORT_FILE
    from bintally.data.store import StoreSettings, open_store
    from bintally.errors import StoreError, UsageError
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assign or [])
    check_tables(tables, {"fetch": fetching.FetchSettings, "store": StoreSettings}, "--set")
    how = {"endpoint": endpoint, "region": region, "unsigned": unsigned}
    store_settings = fill(StoreSettings, "store", flags=tables.get("store", {}) | _given(how))
    settings = fill(fetching.FetchSettings, "fetch", flags=tables.get("fetch", {}) | _given({"in_flight": in_flight}))
    choice = choose.Choice(list_file=list_file, ids=ids, ids_file=ids_file, limit=limit, per_count=per_count)
    if "://" not in source and Path(source).expanduser().resolve() == to.resolve():
        raise UsageError(f"{to} is both where to take from and where to put: name another folder with --to")
    store = open_store(source, store_settings)
    report = fetching.fetch(store, to, choice, settings=settings, progress=console.Bar())
    written = {"report": str(to / REPORT_FILE)}
    if write_list is not None:
        choose.write_list(write_list, layout.counts_on_disk(to, report.ids))
        written["list"] = str(write_list)
    if manifest:
        written["manifest"] = str(_write_manifest(to))
    if as_json:
        console.out_json(report.summary() | written)
    else:
        console.out(report.line())
        for what, path in written.items():
            console.out(f"{what}: {path}")
    if strict and report.problems:
        raise StoreError(f"{len(report.problems):,} objects could not be had whole: see {written['report']}")


def _given(flags: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in flags.items() if value is not None}


def _write_manifest(folder: Path) -> Path:
    from bintally.data.manifest import build_manifest, write_manifest

    path = folder / "manifest.parquet"
    write_manifest(path, build_manifest(folder, workers=None, progress=console.Bar()))
    return path
