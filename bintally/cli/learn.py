"""The verbs of `learn`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console
from bintally.errors import UsageError

if TYPE_CHECKING:
    from bintally.data.manifest import Manifest
    from bintally.learn.evaluate import EvaluateSettings

commands = typer.Typer()


@commands.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run of `bintally train`, or an exported model.", show_default=False)],
    manifest: Annotated[
        Path | None,
        typer.Option(help="Score on this split manifest. Default: the split that the run was trained on."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Part to score: test (the default), validation, calibration or train.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the page here. Default: beside the figures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set evaluate.resamples=500.")
    ] = None,
) -> None:
    """Score a run on photos that it never saw, with intervals, and make its probabilities honest.

    Fits the temperature on the calibration part alone, writes it on the run's card, and scores the test part: on the
    run's own range and on 0-5, beside a counter that never looks and the published results. Writes RUN/evaluation/
    with evaluation.json, predictions.parquet and a page with plots and the worst mistakes.

    Example: bintally evaluate runs/seed
    """
    from bintally.data.manifest import read_manifest
    from bintally.learn.evaluate import EvaluateSettings, evaluation_folder
    from bintally.report.evaluation import summary_table, write_page
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"evaluate": EvaluateSettings}, "--set")
    flags: dict[str, Any] = dict(tables.get("evaluate", {}))
    named = {"part": part, "device": device}
    settings = fill(
        EvaluateSettings, "evaluate", flags=flags | {key: value for key, value in named.items() if value is not None}
    )
    found = _evaluation(run, None if manifest is None else read_manifest(manifest), settings)
    folder = evaluation_folder(run, settings.part)
    page = page or folder / "evaluation.html"
    write_page(folder, page)
    if as_json:
        console.out_json(found)
        return
    for title, columns, rows in summary_table(found):
        console.out_table(title, columns, rows)
    for warning in found["warnings"]:
        console.note(f"note: {warning}")
    if settings.part == "test" and len(found["looks"]) > 1:
        console.note(
            f"note: this test part was scored {len(found['looks'])} times: choose on --part validation, not on it"
        )
    console.out(f"figures in {folder / 'evaluation.json'}, page in {page}")


def _evaluation(run: Path, manifest: "Manifest | None", settings: "EvaluateSettings") -> dict[str, Any]:
    from bintally.card import read_card
    from bintally.counts import Unreadable
    from bintally.learn.evaluate import evaluate as evaluate_run
    from bintally.learn.evaluate import evaluate_counter

    if read_card(run, check_files=False).kind == "trained":
        return evaluate_run(run, manifest, settings, console.Bar())
    if manifest is None:
        raise UsageError(f"{run} is an exported model and holds no split: name one by --manifest")
    from bintally.serve.engine import Engine

    engine = Engine.load(run)

    def logits_of(photos: Sequence[bytes]) -> list[Any]:
        import numpy as np

        squares = [engine.read(photo) for photo in photos]
        whole = [one for one in squares if not isinstance(one, Unreadable)]
        logits = iter(engine.logits(np.stack(whole)) if whole else ())
        return [one if isinstance(one, Unreadable) else next(logits) for one in squares]

    return evaluate_counter(logits_of, engine.card, run, None, manifest, settings, console.Bar())
