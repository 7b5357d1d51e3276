"""The verb that averages runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bintally.cli import console
from bintally.cli.combined import tell_combined

commands = typer.Typer()


@commands.command()
def soup(
    runs: Annotated[
        list[Path], typer.Argument(help="Runs of one network, split and pretraining.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Run folder to make.", show_default=False)],
    method: Annotated[
        str | None, typer.Option(help="greedy (the default: only what helps on the validation part) or uniform.")
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror", help="Answer with the mean over photo and mirror image. Default: as runs."
        ),
    ] = None,
    scales: Annotated[
        str | None,
        typer.Option(help="Answer with the mean over these sides of the photo, as in 160/224/288. Default: as runs."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run at --to.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set soup.statistics=1024.")
    ] = None,
) -> None:
    """Average the weights of runs into one run, which counts at the price of one.

    The runs start from the same pretrained weights and differ in seed, rate, augmentation or length. Batch norm's
    statistics are taken anew on training photos. One run alone, with --mirror or --scales, becomes one
    that looks at each photo so.

    Example: bintally soup runs/seed-0 runs/seed-1 runs/seed-2 --to runs/soup
    """
    from bintally.learn.soup import SoupSettings, cook
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"soup": SoupSettings}, "--set")
    named = {"method": method, "mirror": None if mirror is None else ("on" if mirror else "off")}
    given: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if scales is not None:
        given["scales"] = scales.replace(",", "/").split("/")
    settings = fill(SoupSettings, "soup", flags={**tables.get("soup", {}), **given})
    made = cook(runs, to, settings, console.Bar(), force=force)
    tell_combined(made, len(runs), "weights of", as_json=as_json)
