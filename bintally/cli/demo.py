"""The verb `demo`: the whole way, top to bottom, on bins that bintally draws itself, with no network."""

import json
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from bintally.cli import console

commands = typer.Typer()


@commands.command()
def demo(
    to: Annotated[Path, typer.Option(help="Folder for all that the demo makes.")] = Path("bintally-demo"),
    photos: Annotated[int, typer.Option(min=300, help="How many photos to draw.")] = 5400,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other bins.")] = 0,
) -> None:
    """Go the whole way offline on drawn bins: draw, fetch, split, train, evaluate, count.

    It is made to take about four minutes on two idle cores. Every step is the verb that does the same on real bins, and
    is shown as it would be typed. A demo that was stopped goes on with the same command.

    Example: bintally demo --to /tmp/bins
    """
    from bintally.cli import data, learn

    started = time.monotonic()
    store, bins, run = to / "store", to / "bins", to / "run"
    split, evaluation, summary = to / "split.parquet", to / "evaluation.html", to / "summary.html"
    _draw(to, store, photos, seed)
    _step("take them out of the store, photo and record together", "fetch", str(store), "--to", str(bins))
    data.fetch(source=str(store), to=bins, list_file=None)
    _step("look at what came", "summary", str(bins), "--page", str(summary))
    data.summary(source=bins, page=summary)
    _step("split by series: no bin lies in two parts", "split", str(bins), "--counts", "0-5", "--to", str(split))
    data.split(source=bins, to=split, counts="0-5", seed=0)
    _step("train a small network from scratch", "train", str(split), "--recipe", "demo", "--to", str(run))
    learn.train(split=str(split), to=run, recipe="demo")
    _step("calibrate, then score the photos that were kept apart", "evaluate", str(run), "--page", str(evaluation))
    learn.evaluate(run=run, page=evaluation)
    some = _test_photos(split, 6)
    _step("count", "count", *map(str, some), "--model", str(run))
    learn.count(photos=some, model=run)
    _tell(run, time.monotonic() - started, summary, evaluation)


def _draw(to: Path, store: Path, photos: int, seed: int) -> None:
    from bintally import files
    from bintally.data.draw import DrawSettings, draw_store
    from bintally.errors import UsageError

    asked = {"photos": photos, "seed": seed}
    note = to / "demo.json"
    if note.exists():
        if json.loads(note.read_text(encoding="utf-8")) != asked:
            raise UsageError(f"{to} holds a demo with other --photos or --seed: remove it, or name another by --to")
    elif to.exists() and any(to.iterdir()):
        raise UsageError(f"{to} is there and holds no demo: name another folder by --to")
    files.write_json(note, asked)
    console.note(f"\n── draw {photos:,} bins as an object store laid out like the public dataset: {store}")
    if store.exists():
        console.note("drawn already")
        return
    # Easier than real bins in everything but what is hidden: a small network that has seen a thousand photos for two
    # minutes is to learn something that can be looked at.
    settings = DrawSettings(
        num_photos=photos,
        seed=seed,
        size=128,
        products=150,
        alike_sizes=1.0,
        copies=0.2,
        same_colours=0.05,
        bands=0.3,
        blurred=0.06,
        lighting=0.5,
    )
    drawn = draw_store(store, settings, console.Bar())
    console.out(
        f"{drawn.num_photos:,} photos of {drawn.num_series:,} bins, {drawn.num_bytes / 1e6:.0f} MB; on average "
        f"{drawn.hidden_share:.0%} of the items' area is hidden"
    )


def _step(what: str, *words: str) -> None:
    console.note(f"\n── {what}\n$ bintally {shlex.join(words)}")


def _test_photos(split: Path, num: int) -> list[Path]:
    from bintally.data.manifest import read_manifest

    manifest = read_manifest(split)
    rows = manifest.of_part("test")
    return [manifest.path_of(row) for row in rows[:: max(1, len(rows) // num)][:num]]


def _tell(run: Path, seconds: float, summary: Path, evaluation: Path) -> None:
    console.out(f"\ndone in {seconds / 60:.1f} minutes. What there is to look at:")
    console.out(f"  {summary}      what was drawn, with a contact sheet")
    console.out(f"  {evaluation}   how well it counts, and its worst mistakes as pictures")
    console.out(f"  {run / 'curves.png'}     how the training went")
    console.out(
        "\nNext, on real bins (photos: CC BY-NC-SA 3.0 US, non-commercial use; needs a network):\n"
        "  bintally fetch s3://aft-vbi-pds --ids 00001-09999 --limit 2000 --to abid\n"
        "  bintally split abid --counts 0-5 --to split.parquet\n"
        "  bintally train split.parquet --recipe seed --to runs/seed\n"
        "  bintally evaluate runs/seed"
    )
    activate = Path(sys.prefix) / "bin" / "activate"
    if shutil.which("bintally") is None and activate.exists():
        console.out(f"\n`bintally` is not on your PATH yet: . {shlex.quote(str(activate))}")
