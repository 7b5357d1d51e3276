"""The verb that examines how a counter counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console
from bintally.errors import UsageError

if TYPE_CHECKING:
    from bintally.card import ModelCard
    from bintally.data.manifest import Manifest
    from bintally.learn.examine import Beside, ExamineSettings
    from bintally.learn.maps import MapsOf

commands = typer.Typer()

PAGE_FILE = "examination.html"
FORM_PAGE_FILE = "by-eye.html"


@commands.command()
def examine(
    run: Annotated[Path, typer.Argument(help="An evaluated run, or an exported model.", show_default=False)],
    to: Annotated[
        Path | None, typer.Option(help="Folder to write into. Default: RUN/examination.", show_default=False)
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="The split manifest that it was evaluated on. Default: the split that the run has."),
    ] = None,
    part: Annotated[str | None, typer.Option(help="Part to examine: test (the default), validation, …")] = None,
    by_eye: Annotated[
        Path | None,
        typer.Option(help="by-eye.csv, filled in by a person: how well that person counts the same photos."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set examine.photos=400.")
    ] = None,
) -> None:
    """Ask how a counter counts: what it looks at, where it fails, which labels look wrong, what nobody can count.

    Activation maps of right and wrong answers, checked by taking away what they mark; figures with intervals by true
    count, blur, bands, fill and more; labels that look wrong, by confident learning; estimates of what no counter can
    pass. Writes examination.json, a page, and a form and a page to count by eye.

    Example: bintally examine runs/seed
    """
    from bintally.card import read_card
    from bintally.data.manifest import read_manifest
    from bintally.learn import examine as room
    from bintally.learn.by_eye import read_answers
    from bintally.report.examination import summary_tables, write_form_page, write_page
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"examine": room.ExamineSettings}, "--set")
    flags: dict[str, Any] = dict(tables.get("examine", {}))
    named = {"part": part, "device": device}
    settings = fill(
        room.ExamineSettings,
        "examine",
        flags=flags | {key: value for key, value in named.items() if value is not None},
    )
    answers = None if by_eye is None else read_answers(by_eye)
    card = read_card(run)
    if manifest is None and card.kind == "exported":
        raise UsageError(f"{run} is an exported model and holds no split: name one by --manifest")
    split = read_manifest(manifest or run / "split.parquet")
    to = to or run / (
        room.EXAMINATION_FOLDER if settings.part == "test" else f"{room.EXAMINATION_FOLDER}-{settings.part}"
    )
    beside = _beside(split, card, settings)
    bar = console.Bar()
    found = room.examine(run, to, card, split, _maps_of(run, card, settings), beside, settings, bar, answers=answers)
    write_page(to, to / PAGE_FILE)
    write_form_page(to, to / FORM_PAGE_FILE)
    if as_json:
        console.out_json(found)
        return
    for title, columns, rows in summary_tables(found):
        console.out_table(title, columns, rows)
    console.out(f"figures in {to / room.EXAMINATION_FILE}, page in {to / PAGE_FILE}")
    if by_eye is None:
        console.note(
            f"to count by eye: look at {to / FORM_PAGE_FILE}, fill in a copy of {to / room.FORM_FILE}, "
            "and run this again with --by-eye"
        )


def _beside(split: "Manifest", card: "ModelCard", settings: "ExamineSettings") -> "Beside":
    """What the data room knows of the photos."""
    from bintally.data.bands import band_map
    from bintally.data.pairs import changes, look_alikes
    from bintally.data.traits import Trait, traits_of
    from bintally.learn.examine import Beside

    def cuts(rows: Sequence[Any]) -> list[Trait]:
        return traits_of(rows, card.counts, lambda row: _bytes(split.path_of(row)))

    within = [row for row in split.rows if row.part is not None]
    pairs = changes(split.rows, number=settings.eyes, seed=settings.seed)
    return Beside(
        cuts=cuts,
        look_alikes=[[row.photo.photo_id for row in one] for one in look_alikes(within)],
        changes=[(one.fewer.photo.photo_id, one.more.photo.photo_id, one.what) for one in pairs],
        regions={"elastic bands": band_map},
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # moved since: what is measured on it is not known


def _maps_of(run: Path, card: "ModelCard", settings: "ExamineSettings") -> "MapsOf":
    """The counter, loaded when it is first asked: it may not be."""
    loaded: list[MapsOf] = []

    def maps(squares: Any) -> Any:
        if not loaded:
            loaded.append(_load(run, card, settings))
        return loaded[0](squares)

    return maps


def _load(run: Path, card: "ModelCard", settings: "ExamineSettings") -> "MapsOf":
    if card.kind == "exported":
        from bintally.serve.engine import Engine

        return Engine.load(run).maps
    from bintally.learn.counter import TrainedCounter

    return TrainedCounter.load(run, batch_size=settings.batch_size, device=settings.device).maps
