"""The verbs of `data`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

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
    if _given(how) and not source.lower().startswith(("s3://", "s3a://")):
        raise UsageError(f"--{next(iter(_given(how)))} is for s3://bucket, and would change nothing at {source}")
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


@commands.command()
def manifest(
    folder: Annotated[
        Path, typer.Argument(help="Dataset folder: bin-images/ and metadata/ as in the public bucket.")
    ],
    to: Annotated[
        Path | None, typer.Option(help="Where to write it. Default: manifest.parquet in the folder.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look at every photo once and write down what it is: size, hash, blur, record, label.

    Photos that cannot be read, and records that are missing or malformed, are listed and stop nothing. Moving the
    folder with its manifest does no harm; a manifest that was changed by hand is refused later on.

    Example: bintally manifest bins
    """
    from bintally.data.manifest import MANIFEST_FILE, build_manifest, check_place, write_manifest

    path = to or folder / MANIFEST_FILE
    check_place(path)
    made = write_manifest(path, build_manifest(folder, workers=workers, progress=console.Bar()))
    if as_json:
        listed = [{"photo_id": problem.photo_id, "what": problem.what} for problem in made.problems]
        console.out_json({"manifest": str(path), "photos": len(made.rows), "digest": made.digest, "problems": listed})
        return
    for problem in made.problems[:_SHOWN]:
        console.note(f"{problem.photo_id}: {problem.what}")
    if len(made.problems) > _SHOWN:
        console.note(f"... and {len(made.problems) - _SHOWN:,} more; `bintally summary {path}` lists them")
    console.out(f"{len(made.rows):,} photos, {len(made.problems):,} problems: {path}")


@commands.command()
def summary(
    source: Annotated[Path, typer.Argument(help="Dataset folder or manifest file.")],
    page: Annotated[Path | None, typer.Option(help="Write a page with plots and a contact sheet here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")] = None,
) -> None:
    """Tell what a dataset holds: counts, sizes, duplicates, blurred photos, records that do not add up, series.

    Example: bintally summary bins --page summary.html
    """
    from bintally.data.manifest import open_manifest
    from bintally.data.summary import summarise, summary_lines

    held = open_manifest(source, workers=workers, progress=console.Bar())
    found = summarise(held)
    if page is not None:
        from bintally import files
        from bintally.report.summary import summary_page

        paths = {row.photo.photo_id: held.path_of(row) for row in held.rows}

        def read(name: str) -> bytes | None:
            try:
                return paths[name].read_bytes()
            except OSError:
                return None  # moved or removed since: the page shows a placeholder

        files.write_text(page, summary_page(found, read))
    if as_json:
        console.out_json(found)
        return
    counts = found["counts"]["classes"]
    rows = [[one["name"], f"{one['photos']:,}", _percent(one["share"])] for one in counts]
    console.out_table(f"{found['photos']:,} photos in {found['root']}", ["items", "photos", "share"], rows)
    console.out_table("", ["what", "figure"], [list(pair) for pair in summary_lines(found)])
    if found["split"] is not None:
        _show_split(found["split"])
    if page is not None:
        console.out(f"page: {page}")


@commands.command()
def split(
    source: Annotated[Path, typer.Argument(help="Dataset folder or manifest file.")],
    to: Annotated[Path, typer.Option("--to", help="The split manifest to write, such as split.parquet.")],
    counts: Annotated[
        str | None,
        typer.Option(help="Bins to keep: all (the default; the last class is open), all:12, 0-5, 1-5."),
    ] = None,
    top: Annotated[int | None, typer.Option(help="The open last class of --counts all (10).")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another split (0).")] = None,
    fractions: Annotated[
        str | None, typer.Option(help="Shares of train/validation/calibration/test (60/15/10/15).")
    ] = None,
    shuffled: Annotated[
        bool | None,
        typer.Option("--shuffled", help="By photo, as the literature does: tests on siblings of what it learnt."),
    ] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set split.near_bits=90.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Split photos into train, validation, calibration and test, never cutting a series of one bin.

    The same photos and seed always give the same parts, and added photos move few others.

    Example: bintally split bins --to split.parquet --counts 0-5
    """
    from bintally.data.manifest import check_place, open_manifest, write_manifest
    from bintally.data.split import SplitSettings, split_manifest, split_report
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assign or [])
    check_tables(tables, {"split": SplitSettings}, "--set")
    named = {"counts": counts, "top": top, "seed": seed, "shuffled": shuffled, "fractions": _fractions(fractions)}
    settings = fill(SplitSettings, "split", flags=tables.get("split", {}) | _given(named))
    check_place(to)
    made = write_manifest(to, split_manifest(open_manifest(source, progress=console.Bar()), settings))
    report = split_report(made)
    if as_json:
        console.out_json({"manifest": str(to), "digest": made.digest} | report)
        return
    _show_split(report)
    console.out(f"manifest: {to}")


_SHOWN = 10


def _fractions(text: str | None) -> list[str] | None:
    from bintally.errors import UsageError

    words = None if text is None else text.replace(",", "/").split("/")
    if words is not None and len(words) != 4:
        raise UsageError(
            f"--fractions {text}: give four shares, as in 60/15/10/15 (train/validation/calibration/test)"
        )
    return words


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _show_split(report: Mapping[str, Any]) -> None:
    how = "by photo (shuffled)" if report["shuffled"] else "by group"
    rows = [
        [name, f"{part['photos']:,}", _percent(part["share"]), f"{part['groups']:,}", *map(str, part["per_class"])]
        for name, part in report["parts"].items()
    ]
    columns = ["part", "photos", "share", "groups", *report["classes"]]
    console.out_table(f"counts {report['counts']}, seed {report['seed']}, {how}", columns, rows)
    groups = report["groups"]
    console.out(
        f"{report['kept']:,} photos kept, {report['left_out']:,} left out; {groups['groups']:,} groups in all, the "
        f"largest of {groups['longest']}; {_percent(groups['sibling_share'])} of the photos have a sibling"
    )
    console.out(
        f"{report['leaking_test_photos']:,} test photos ({_percent(report['leaking_share'])}) have a sibling in train"
    )
