"""The verb `watch`, and how `train --watch` reports."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console

if TYPE_CHECKING:
    from bintally.learn.history import Rule

commands = typer.Typer()

FOLDER = "watch"
"""Where in a run the records and verdicts lie; `learn.watch.FOLDER`, told again so that --help loads nothing."""


@commands.command()
def watch(
    run: Annotated[Path, typer.Argument(help="A run of `bintally train --watch`.", show_default=False)],
    rules: Annotated[
        str | None,
        typer.Option(
            help='Thresholds: a TOML file, or "counting" for those that fit counting. Default: the familiar.'
        ),
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the page here. Default: RUN/watch/watch.html.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again every ten seconds until the run ends.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Judge a watched training by the debug rules, while it runs or afterwards.

    Writes one JSON file a rule and a page into RUN/watch: what fired, in which layer, at which step, and what people
    do about it.

    Example: bintally watch runs/seed --rules counting
    """
    from bintally.learn.run import read_run

    while follow and read_run(run)["status"] == "running":
        found = judge_run(run, rules, page)
        console.note(_line(found))
        time.sleep(10)
    verdicts = judge_run(run, rules, page)
    if as_json:
        console.out_json(verdicts)
        return
    rows = [
        [name, "fired" if one["RuleTriggered"] else "quiet", f"{one['Violations']:,}", f"{one['Datapoints']:,}"]
        for name, one in verdicts.items()
    ]
    console.out_table("", ["rule", "verdict", "findings", "looked at"], rows)
    for name, one in verdicts.items():
        if one["RuleTriggered"]:
            first = one["Details"]["findings"][0]
            console.out(f"{name}: step {first['step']}, {first['where']}: {first['message']}")
    console.out(f"page: {page or run / FOLDER / 'watch.html'}")


def tell(run: Path, rules: str | None) -> None:
    """Judges a run that `train --watch` has just left, and says on standard error what fired."""
    verdicts = judge_run(run, rules)
    fired = [f"{name} ({one['Violations']:,})" for name, one in verdicts.items() if one["RuleTriggered"]]
    console.note(f"watch: {', '.join(fired) if fired else 'no rule fired'}; page: {run / FOLDER / 'watch.html'}")


def load(name: str | None) -> "dict[str, Rule]":
    """Rules by the name of a shipped file, by a path, or the familiar ones."""
    from bintally.learn.watch import load_rules, shipped_rules

    return load_rules(shipped_rules(name) if name else None)


def judge_run(run: Path, rules: str | None, page: Path | None = None) -> dict[str, dict[str, Any]]:
    """Judges what was recorded of a run; writes its files and page."""
    import dataclasses

    from bintally import files
    from bintally.learn.watch import read_run_history, report, write_report
    from bintally.report import watch as watch_page

    history = read_run_history(run)
    verdicts = report(load(rules), history)
    write_report(run / FOLDER, verdicts)
    checks = [dataclasses.asdict(one) for one in history.checks]
    validations = [dataclasses.asdict(one) for one in history.validations]
    text = watch_page.page(run.name, verdicts, checks, validations)
    files.write_text(page or run / FOLDER / "watch.html", text)
    return verdicts


def _line(verdicts: dict[str, dict[str, Any]]) -> str:
    fired = [name for name, one in verdicts.items() if one["RuleTriggered"]]
    return f"{time.strftime('%H:%M:%S')} {', '.join(fired) or 'nothing fires'}"
