"""The verbs of `learn`."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console
from bintally.cli import watch as watch_verb
from bintally.errors import UsageError

if TYPE_CHECKING:
    from bintally.counts import Answer, Counter
    from bintally.data.manifest import Manifest
    from bintally.learn.evaluate import EvaluateSettings

commands = typer.Typer()

PHOTOS = {".jpg", ".jpeg", ".png"}
BATCH = 32
LARGEST = 64 << 20
"""Files above this many bytes are no bin photos and are not read."""


@commands.command()
def train(
    split: Annotated[
        str | None,
        typer.Argument(
            help="What `bintally split` wrote or the folder that it lies in, a folder of class folders (train/3/…, "
            "validation/3/…), or s3://… of such a folder. Without it: what a training container holds, see "
            "docs/cloud-training.md.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for all that comes of the training.", show_default=False)
    ] = None,
    recipe: Annotated[str, typer.Option(help="A recipe that comes with bintally, or a TOML file.")] = "seed",
    backbone: Annotated[
        str | None, typer.Option(help='Hub id, local snapshot folder, or "tiny" (from scratch).')
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training photos.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    log: Annotated[str, typer.Option(help="Also log to: tensorboard, mlflow, or both, with a comma.")] = "",
    watching: Annotated[
        bool, typer.Option("--watch", help="Read gradients, weights and activations, and judge them by debug rules.")
    ] = False,
    watch_rules: Annotated[
        str | None, typer.Option(help='Thresholds for --watch: a TOML file, or "counting". Default: the familiar.')
    ] = None,
    stop_on: Annotated[
        list[str] | None, typer.Option(help="A rule that stops the run, as in --stop-on ExplodingTensor.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget the run in that folder and start again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    endpoint: Annotated[
        str | None, typer.Option(help="URL of another S3-compatible service that s3://… lies in.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set model.unfrozen_stages=1.")
    ] = None,
) -> None:
    """Train a counter on the training part; the best epoch on the validation part is kept.

    The same command goes on from the last checkpoint after any stop, to the same weights. Writes the model, its card,
    history.csv and curves.png.

    Example: bintally train bins/split.parquet --to runs/seed --epochs 5
    """
    if split is None:
        from bintally.cli import container

        said: list[object] = [to, backbone, epochs, device, log, watching, watch_rules]
        said += [stop_on, restart, endpoint, assignments]
        container.train(alone=not any(said) and seed is None and recipe == "seed")
        return
    if to is None:
        raise UsageError("name the folder for what comes of the training: --to runs/NAME")

    from bintally.data.mirror import MirrorSettings
    from bintally.data.source import open_split
    from bintally.data.store import StoreSettings
    from bintally.learn import run as run_folder
    from bintally.learn.recipe import read_recipe
    from bintally.learn.track import make_logs
    from bintally.learn.train import train as train_run
    from bintally.learn.watch import Watcher, WatchSettings
    from bintally.report.curves import write_curves
    from bintally.settings import fill, parse_assignments

    tables: dict[str, dict[str, Any]] = {
        table: dict(keys) for table, keys in parse_assignments(assignments or []).items()
    }
    named: dict[str, dict[str, Any]] = {
        "model": {"backbone": backbone},
        "train": {"epochs": epochs, "seed": seed, "device": device},
    }
    for table, keys in named.items():
        tables.setdefault(table, {}).update({key: value for key, value in keys.items() if value is not None})
    how_to_watch = fill(WatchSettings, "watch", flags=tables.pop("watch", {}) | _given_stops(stop_on))
    mirrored = fill(MirrorSettings, "mirror", flags=tables.pop("mirror", {}))
    store = fill(StoreSettings, "store", flags={"endpoint": endpoint} | tables.pop("store", {}))
    asked = read_recipe(recipe, tables)
    listeners = make_logs(name.strip() for name in log.split(",") if name.strip())
    watching = watching or bool(how_to_watch.stop_on) or watch_rules is not None
    if watching:
        listeners.append(Watcher(how_to_watch, watch_verb.load(watch_rules)))
    manifest = open_split(split, store=store, mirrored=mirrored, progress=console.Bar())
    try:
        result = train_run(manifest, to, asked, restart=restart, listeners=listeners, progress=console.Bar())
    finally:
        if watching and (to / watch_verb.FOLDER).is_dir():
            watch_verb.tell(to, watch_rules)
    if not result.is_main:
        return
    if not (to / run_folder.CURVES_FILE).exists():
        write_curves(to / run_folder.HISTORY_FILE, to / run_folder.CURVES_FILE)
    found, refit = result.card.validation, result.card.is_refit
    if as_json:
        outcome = {"run": str(to), "model_id": result.card.model_id, "validation": found, "refit": refit}
        outcome |= {"best_epoch": result.best_epoch, "epochs": result.epochs, "seconds": round(result.seconds, 1)}
        console.out_json(outcome | {"already": result.already})
        return
    if result.already:
        console.note(f"{to} is finished already; --restart trains it anew")
    names = {"accuracy": "accuracy", "within_one": "within one", "rmse": "RMSE", "nll": "negative log-likelihood"}
    rows = [
        [title, f"{found[name]:.1%}" if name in {"accuracy", "within_one"} else f"{found[name]:.2f}"]
        for name, title in names.items()
    ]
    before = ", before it was learnt from as well" if refit else ""
    console.out_table(
        f"epoch {result.best_epoch} of {result.epochs}, on the validation part{before}", ["", "value"], rows
    )
    console.out(f"{to}: {result.seconds:,.0f} s of training; next: bintally evaluate {to}")


def _given_stops(stop_on: list[str] | None) -> dict[str, Any]:
    return {"stop_on": stop_on} if stop_on else {}


@commands.command()
def count(
    photos: Annotated[
        list[Path], typer.Argument(help="Photos, or folders of .jpg, .jpeg and .png files.", show_default=False)
    ],
    model: Annotated[
        Path, typer.Option(envvar="BINTALLY_MODEL", help="A run, or an exported model.", show_default=False)
    ],
    level: Annotated[
        float, typer.Option(help="Probability that the range of counts is to hold.", min=0.01, max=1)
    ] = 0.9,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Write each photo with a heat map of what speaks for its count here. Exported models only."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line and photo.")] = False,
) -> None:
    """Count the items in photos: the likeliest count, and the shortest range that holds 90 %.

    A photo that cannot be read is a line in the answer; only when none can be, the exit code is 1.

    Example: bintally count bins/bin-images/00001.jpg --model runs/seed
    """
    found = list(_walk(photos))
    if not found:
        raise UsageError(f"no .jpg, .jpeg or .png file in {', '.join(map(str, photos))}")
    counter = _counter(model)
    if explain is not None:
        _check_explains(counter, model, explain)
    rows: list[list[str]] = []
    faults: list[str] = []
    num_read = 0
    for path, answer, seconds in _counted(counter, found):
        line = _answer_json(path, answer, level) | {"model_id": counter.model_id, "ms": round(1000 * seconds, 1)}
        num_read += "count" in line
        if explain is not None and "count" in line:
            line["heat_map"] = str(_write_heat(counter, path, explain))
        if as_json:
            console.out_json(line, indent=None)
        elif "count" in line:
            low, high = line["range"]
            figures = [f"{line['probability']:.0%}", f"{line['expected']:.1f}", f"{line['ms']:.0f}"]
            rows.append([str(path), line["name"], low if low == high else f"{low} to {high}", *figures])
        else:
            faults.append(f"{path}: not counted: {line['unreadable']}")
    if rows:
        columns = ["photo", "count", f"range ({level:.0%})", "probability", "expected", "ms"]
        console.out_table("", columns, rows)
    for fault in faults:
        console.out(fault)
    if not num_read:
        raise typer.Exit(1)


def _walk(names: Sequence[Path]) -> Iterator[Path]:
    for name in names:
        if name.is_dir():
            yield from sorted(one for one in name.rglob("*") if one.suffix.lower() in PHOTOS and one.is_file())
        else:
            yield name


def _counter(folder: Path) -> "Counter":
    from bintally.card import read_card

    if read_card(folder, check_files=False).kind == "exported":
        from bintally.serve.engine import Engine

        return Engine.load(folder)
    from bintally.learn.counter import TrainedCounter

    return TrainedCounter.load(folder)


def _counted(counter: "Counter", paths: Sequence[Path]) -> "Iterator[tuple[Path, Answer, float]]":
    # In batches: as fast as all at once, in bounded memory, and answers come out while the rest is counted.
    from bintally.counts import Unreadable

    for start in range(0, len(paths), BATCH):
        some = paths[start : start + BATCH]
        began = time.perf_counter()
        data: dict[Path, bytes] = {}
        faults: dict[Path, Answer] = {}
        for path in some:
            try:
                if path.stat().st_size > LARGEST:
                    faults[path] = Unreadable(reason=f"the file has more than {LARGEST >> 20} MB")
                else:
                    data[path] = path.read_bytes()
            except OSError as error:
                faults[path] = Unreadable(reason=(error.strerror or str(error)).lower())
        answers = faults | dict(zip(data, counter.count(list(data.values())), strict=True))
        each = (time.perf_counter() - began) / len(some)
        yield from ((path, answers[path], each) for path in some)


def _check_explains(counter: "Counter", model: Path, to: Path) -> None:
    if not hasattr(counter, "explain"):
        raise UsageError(f"--explain needs an exported model: `bintally export {model} --to DIR`, then --model DIR")
    if to.exists() and not to.is_dir():
        raise UsageError(f"--explain {to}: that is a file; name a folder")


def _write_heat(counter: Any, path: Path, to: Path) -> Path:
    from bintally.files import write_bytes
    from bintally.heatmap import overlay_png
    from bintally.pixels import decode

    data = path.read_bytes()
    _, heat = counter.explain(data)
    # Two photos of one name in two folders keep apart.
    name = "-".join(part for part in path.with_suffix(".png").parts[-3:] if part not in {"/", "..", "."})
    written = to / name
    write_bytes(written, overlay_png(decode(data), heat), durable=False)
    return written


def _answer_json(path: Path, answer: "Answer", level: float) -> dict[str, Any]:
    from bintally.counts import Unreadable

    if isinstance(answer, Unreadable):
        return {"photo": str(path), "unreadable": answer.reason}
    low, high = answer.interval(level)
    return {
        "photo": str(path),
        "count": answer.count,
        "name": answer.name(answer.count),
        "range": [answer.name(low), answer.name(high)],
        "level": level,
        "probability": round(answer.probability, 6),
        "expected": round(answer.expected, 4),
        "probabilities": [round(one, 6) for one in answer.probabilities],
    }


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
