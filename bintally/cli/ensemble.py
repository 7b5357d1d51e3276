"""The verb that lets runs answer together."""

from pathlib import Path
from typing import Annotated

import typer

from bintally.cli import console
from bintally.cli.combined import tell_combined

commands = typer.Typer()


@commands.command()
def ensemble(
    runs: Annotated[list[Path], typer.Argument(help="Runs of one split, input and head.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Run folder to make.", show_default=False)],
    method: Annotated[
        str | None, typer.Option(help="greedy (the default: only what helps on the validation part) or all.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run at --to.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set ensemble.batch_size=16.")
    ] = None,
) -> None:
    """Lay runs side by side into one run that answers with the mean of theirs, at the price of all.

    The networks may differ: a ResNet18 and a ResNet50 go together. Runs of one network and pretraining may be averaged
    instead, at the price of one: see bintally soup.

    Example: bintally ensemble runs/best runs/best-rate --method all --to runs/both
    """
    from bintally.learn.ensemble import EnsembleSettings, unite
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"ensemble": EnsembleSettings}, "--set")
    given = {} if method is None else {"method": method}
    settings = fill(EnsembleSettings, "ensemble", flags={**tables.get("ensemble", {}), **given})
    made = unite(runs, to, settings, console.Bar(), force=force)
    tell_combined(made, len(runs), "answers of", as_json=as_json)
