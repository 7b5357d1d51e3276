"""The verb `report`."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console

if TYPE_CHECKING:
    from bintally.data.manifest import Manifest

commands = typer.Typer()

PAGE_FILE = "report.html"


@commands.command()
def report(
    run: Annotated[
        Path,
        typer.Argument(help="A run of `bintally train`, or the unpacked output of a job.", show_default=False),
    ],
    to: Annotated[Path | None, typer.Option(help="Write the page here. Default: RUN/report.html.")] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Write it as PDF too, beside the page and under its name.")
    ] = False,
    tune: Annotated[
        Path | None, typer.Option(help="The tuning's folder. Default: RUN/tune, if there is one.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="The profile's folder. Default: RUN/profile, if there is one.")
    ] = None,
    job: Annotated[
        list[Path] | None,
        typer.Option(
            help="What `bintally cloud status --json` said of a job. Default: RUN/job.json, if there is one."
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(help="Dataset folder or manifest with the run's photos, when they are elsewhere by now."),
    ] = None,
) -> None:
    """Write the report of a run: the question, data, method, benchmark, tuning, training, findings, results and cost.

    Made from what the stages wrote; a stage that did not run is one line with the command that would fill it in. The
    page stands alone.

    Example: bintally report runs/seed --pdf
    """
    from bintally import files
    from bintally.report.course import course_page, course_report
    from bintally.report.gather import SPLIT_FILE, gather

    split = _manifest(run / SPLIT_FILE) if (run / SPLIT_FILE).is_file() else None
    others = _manifest(photos) if photos is not None else None
    material = gather(
        run,
        tune=tune,
        profile=profile,
        jobs=tuple(job or ()),
        data=_summary(split or others),
        published=_published(),
        read_photo=_reader(*(one for one in (others, split) if one is not None)),
    )
    material = dataclasses.replace(material, jobs=[_priced(one) for one in material.jobs])
    document = course_report(material)
    page = to or run / PAGE_FILE
    files.write_text(page, course_page(document))
    console.out(f"page: {page}")
    if pdf:
        from bintally.report.pdf import write_pdf

        write_pdf(document, page.with_suffix(".pdf"))
        console.out(f"pdf: {page.with_suffix('.pdf')}")


def _priced(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job with the price of its billed time, where the table of prices knows its machine."""
    from bintally.cloud.cost import read_prices

    table = read_prices()
    price, seconds = table.machine_hour.get(str(job.get("instance"))), job.get("billed_seconds")
    if price is None or seconds is None:
        return dict(job)
    usd = price * seconds / 3600 * (job.get("instances") or 1)
    return {**job, "usd": usd, "prices": f"{table.table.date}, {table.table.region}"}


def _manifest(path: Path) -> "Manifest":
    from bintally.data.manifest import open_manifest

    return open_manifest(path, progress=console.Bar())


def _summary(split: "Manifest | None") -> dict[str, object] | None:
    from bintally.data.summary import summarise

    return None if split is None else summarise(split)


def _published() -> list[dict[str, object]]:
    from dataclasses import asdict

    from bintally.learn.published import PUBLISHED

    return [asdict(one) for one in PUBLISHED]


def _reader(*manifests: "Manifest") -> Callable[[str], bytes | None]:
    """Gives photos by id from the first manifest whose file is there."""
    places: dict[str, list[Path]] = {}
    for one in manifests:
        for row in one.rows:
            places.setdefault(row.photo.photo_id, []).append(one.path_of(row))

    def read(name: str) -> bytes | None:
        for path in places.get(name, ()):
            try:
                return path.read_bytes()
            except OSError:
                continue  # moved or removed since: the next place, or a placeholder
        return None

    return read
