"""`bintally train` inside a managed training container: the contract of `cloud.container`, carried out."""

import contextlib
import dataclasses
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bintally.cli import console
from bintally.cli import watch as watch_verb
from bintally.errors import BintallyError, RunStoppedError, UsageError

if TYPE_CHECKING:
    from bintally.cloud.container import Container
    from bintally.cloud.hyperparameters import Asked
    from bintally.data.manifest import Manifest
    from bintally.learn.listen import Listener
    from bintally.learn.recipe import Recipe

STEP_EVERY = 10
"""The loss of a step is told once in so many."""


def train(*, alone: bool) -> None:
    """Does what the container's surroundings ask for.

    Args:
        alone: whether nothing else was said on the command line.

    Raises:
        UsageError: this is no training container, or more was said.
        RunStoppedError: SIGTERM or SIGINT came; a job that is started again goes on.
        BintallyError: it failed; the container's `failure` file says so, too.
    """
    from bintally.cloud import container

    if not container.in_container(os.environ):
        raise UsageError("name what to train on and where to: bintally train bins/split.parquet --to runs/seed")
    if not alone:
        raise UsageError(
            "inside a container `train` takes everything from its hyperparameters: leave the options away, or name a split"
        )
    told = container.failure_file(os.environ)
    container.forget_failure(told)
    try:
        with _stops_at_sigterm():
            _train(container.read_container(os.environ))
    except _Stopped as stop:
        raise RunStoppedError(
            "stopped; a job with the same checkpoints goes on from here", 128 + signal.SIGTERM
        ) from stop
    except RunStoppedError:
        raise  # nothing failed: the service, or somebody, wants the machine back
    except BintallyError as error:
        container.write_failure(told, error)
        raise BintallyError(str(error)) from error  # the service knows 0 and the rest; usage errors are no exception
    except Exception as error:
        container.write_failure(told, error)
        raise


class _Stopped(BaseException):
    """SIGTERM came. No `Exception`: whatever library is at work must not take it for a failure of its own."""


@contextlib.contextmanager
def _stops_at_sigterm() -> Iterator[None]:
    # While the loop trains it has its own way of stopping; what comes before and after it simply ends: it is done
    # again by a job that goes on, from the run as it is.
    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(place: "Container") -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is loaded: else its profiler talks

    from bintally.cloud import container
    from bintally.cloud.hyperparameters import parse_hyperparameters
    from bintally.learn.hosts import is_first_process
    from bintally.learn.train import train as train_run

    asked = parse_hyperparameters(place.hyperparameters)
    settings = _Settings.of(asked, place)
    os.environ.update(container.rendezvous(place, os.environ))
    console.note(
        f"host {place.host}, {place.rank + 1} of {len(place.hosts)}; channels: {', '.join(place.channels) or 'none'}; "
        f"hyperparameters: {', '.join(f'{k}={v}' for k, v in place.hyperparameters.items()) or 'none'}"
    )
    manifest = _manifest(place)
    first = is_first_process()
    if first and asked.profile:
        _profile(manifest, settings, place.profile)
    if len(place.hosts) > 1:
        container.wait_for_name(os.environ["MASTER_ADDR"])
    listeners = settings.listeners(asked) if first else []
    try:
        result = train_run(manifest, place.run, settings.recipe, listeners=listeners, progress=console.Bar())
        if result.is_main:
            if result.already:
                console.note("this job had trained to its end before: what follows it is done again")
            _finish(place, manifest, settings)
    finally:
        if first:
            _report(place, asked)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    recipe: "Recipe"
    watch: Any
    profile: Any
    evaluate: Any
    export: Any

    @classmethod
    def of(cls, asked: "Asked", place: "Container") -> "_Settings":
        import torch

        from bintally.cloud.container import BACKBONE_CHANNEL
        from bintally.learn.evaluate import EvaluateSettings
        from bintally.learn.export import ExportSettings
        from bintally.learn.measure import ProfileSettings
        from bintally.learn.model import SNAPSHOT_VARIABLE
        from bintally.learn.recipe import read_recipe
        from bintally.learn.watch import WatchSettings
        from bintally.settings import fill

        tables = {table: dict(keys) for table, keys in asked.tables.items()}
        others = {"watch": WatchSettings, "profile": ProfileSettings}
        others |= {"evaluate": EvaluateSettings, "export": ExportSettings}
        flags: dict[str, dict[str, Any]] = {table: dict(tables.pop(table, {})) for table in others}
        if asked.stop_on:
            flags["watch"]["stop_on"] = list(asked.stop_on)
        tables.setdefault("train", {})["hosts"] = str(len(place.hosts))
        num_gpus = place.num_gpus or torch.cuda.device_count()
        if num_gpus > 1 and tables["train"].get("device") != "cpu":
            tables["train"].setdefault("processes", str(num_gpus))
        if BACKBONE_CHANNEL in place.channels:
            os.environ[SNAPSHOT_VARIABLE] = str(place.channels[BACKBONE_CHANNEL])
        filled: dict[str, Any] = {name: fill(kind, name, flags=flags[name]) for name, kind in others.items()}
        return cls(recipe=read_recipe(asked.recipe, tables), **filled)

    def listeners(self, asked: "Asked") -> "list[Listener]":
        from bintally.learn.track import make_logs

        found: list[Listener] = [_metrics(), *make_logs(asked.log)]
        if asked.watch:
            from bintally.learn.watch import Watcher

            found.append(Watcher(self.watch, watch_verb.load(asked.watch_rules)))
        return found


def _manifest(place: "Container") -> "Manifest":
    from bintally.cloud.container import find_data
    from bintally.data.folders import NAMES, read_folders
    from bintally.data.source import open_folder, tell_missing
    from bintally.errors import SettingsError

    found = find_data(place)
    if isinstance(found, Path):
        return open_folder(found, progress=console.Bar())
    parts = {NAMES[name]: path for name, path in found.items()}
    if not {"train", "validation"} <= parts.keys():
        raise SettingsError(
            f"the channels hold class folders for {', '.join(sorted(parts))}: a training needs train and validation"
        )
    made = read_folders(parts, progress=console.Bar())
    tell_missing(made, console.Bar())
    return made


def _metrics() -> "Listener":
    from bintally.cloud.metrics import METRICS, metric_line
    from bintally.learn.listen import Listener

    def named(row: Mapping[str, Any]) -> dict[str, float]:
        names = {key: key.replace("_", ":", 1) for key in row} | {"seconds": "train:seconds"}
        names |= {"epoch": "train:epoch", "step": "train:step"}
        return {names[key]: float(value) for key, value in row.items() if names[key] in METRICS}

    class Metrics(Listener):
        """Tells the figures in lines that the service's expressions read."""

        def on_step(self, step: int, epoch: int, loss: float) -> None:
            if step % STEP_EVERY == 0:
                console.out(metric_line({"train:step": step, "train:step_loss": loss}))

        def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
            console.out(metric_line(named(row)))

    return Metrics()


def _profile(manifest: "Manifest", settings: _Settings, to: Path) -> None:
    from bintally import files
    from bintally.learn.profile import PROFILE_FILE
    from bintally.learn.profile import profile as profile_recipe
    from bintally.report import profile as profile_page

    if (to / PROFILE_FILE).is_file():
        return  # of the same job, before it was interrupted
    found = profile_recipe(manifest, settings.recipe, to, settings.profile, progress=console.Bar())
    files.write_text(to / "profile.html", profile_page.page("profile", found))
    console.note(f"profile: {found['headline']}")


def _finish(place: "Container", manifest: "Manifest", settings: _Settings) -> None:
    """Evaluates, exports and delivers what was trained."""
    from bintally.cloud.container import deliver_model
    from bintally.cloud.metrics import METRICS, metric_line
    from bintally.data.manifest import read_manifest
    from bintally.learn import run as run_folder
    from bintally.learn.evaluate import evaluate, evaluation_folder
    from bintally.learn.export import export
    from bintally.report.curves import write_curves
    from bintally.report.evaluation import write_page

    run_folder.keep_manifest(place.run, manifest)
    write_curves(place.run / run_folder.HISTORY_FILE, place.run / run_folder.CURVES_FILE)
    part = settings.evaluate.part
    own = read_manifest(place.run / run_folder.SPLIT_FILE)  # a refit has joined two of its parts
    if own.of_part(part):
        found = evaluate(place.run, None, settings.evaluate, console.Bar())
        write_page(evaluation_folder(place.run, part), evaluation_folder(place.run, part) / "evaluation.html")
        for warning in found["warnings"]:
            console.note(f"note: {warning}")
        best = found["scopes"][0]["calibrated"] or found["scopes"][0]["raw"]
        told = {f"{part}:{name}": one["value"] for name, one in best["figures"].items()}
        console.out(metric_line({name: value for name, value in told.items() if name in METRICS}))
    else:
        console.note(f"there is no {part} part: the counter is not scored on it")
    with tempfile.TemporaryDirectory(prefix="bintally-export-") as name:
        card = export(place.run, Path(name) / "model", settings.export, console.Bar())
        deliver_model(Path(name) / "model", place)
    console.note(f"model {card.model_id}, {card.precision}, is in {place.model}")


def _report(place: "Container", asked: "Asked") -> None:
    """Judges what was watched, and copies what was written to the job's output, however the training ended."""
    from bintally.cloud.container import deliver_reports

    if asked.watch and (place.run / watch_verb.FOLDER).is_dir():
        watch_verb.tell(place.run, asked.watch_rules)
    deliver_reports(place)
