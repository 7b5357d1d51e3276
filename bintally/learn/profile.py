"""Profiling a training: where a step's time goes, what the machine does meanwhile, and what makes it faster, tried."""

import contextlib
import dataclasses
import gzip
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from bintally import files, settings
from bintally.data.manifest import Manifest
from bintally.errors import BintallyError, RunStoppedError, UsageError
from bintally.learn.device import pick_device, pick_precision
from bintally.learn.frozen import Kept
from bintally.learn.kept import views_of
from bintally.learn.levers import Lever, Measured, choose
from bintally.learn.listen import Listener
from bintally.learn.loader import Photos, num_steps
from bintally.learn.material import TrainingData
from bintally.learn.model import CountModel
from bintally.learn.profiler_rules import (
    ProfilerRule,
    Recording,
    StepTime,
    load_profiler_rules,
    profiler_report,
    usage,
)
from bintally.learn.recipe import Recipe
from bintally.learn.sampling import Sample, Sampler, percentile
from bintally.learn.shared import Shared
from bintally.learn.train import try_out
from bintally.learn.watch import write_report
from bintally.pixels import PixelSpec
from bintally.progress import Progress, Silent

PROFILE_FILE = "profile.json"
TRACE_FILE = "trace.json"
PHASES = ("waiting", "to_device", "forward", "backward", "optimizer")
"""The phases of a step, in order. They add up to it."""

_LARGE_TRACE = 8 << 20
_PAYS = 1.05
_LEAST_STEPS = 3
_NUM_OPERATORS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """How a training is profiled.

    Attributes:
        steps: steps that are measured.
        warmup: steps before them that are not: memory is allotted, and what was loaded in advance is used up.
        traced: steps after them under torch's profiler, which slows them.
        epoch: "later": photos come from memory where the recipe's cache holds all of them, as from the second epoch
            on; "first": they are read and decoded.
        interval: seconds between samples of the machine.
        tries: how many levers are tried at most.
        try_steps: steps that are measured with each.
        max_seconds: after so many seconds a measurement ends with the steps that it has, three at the least.
    """

    steps: Annotated[int, Field(ge=_LEAST_STEPS)] = 30
    warmup: Annotated[int, Field(ge=0)] = 5
    traced: Annotated[int, Field(ge=0)] = 3
    epoch: Literal["first", "later"] = "later"
    interval: Annotated[float, Field(ge=0.01)] = 0.1
    tries: Annotated[int, Field(ge=0)] = 3
    try_steps: Annotated[int, Field(ge=_LEAST_STEPS)] = 15
    max_seconds: Annotated[float, Field(gt=0)] = 60.0


def profile(
    manifest: Manifest,
    recipe: Recipe,
    to: Path,
    how: ProfileSettings | None = None,
    *,
    rules: Mapping[str, ProfilerRule] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Profiles the training of a recipe, by the code that trains.

    Args:
        manifest: with parts. As many training photos are used as the measured steps need.
        recipe: what would be trained; one process of it.
        to: the folder for `profile.json`, `<Rule>.json` and the Chrome trace (open it in chrome://tracing or
            https://ui.perfetto.dev).
        how: how much is measured; `tries=0` tries nothing.
        rules: the profiler rules; the familiar ones by default.
        progress: is told how far it is.

    Returns:
        What `profile.json` holds; seconds are those of one step, in the mean, unless they say otherwise.

    Raises:
        ManifestError: no split, or parts that nothing can be learnt from.
        UsageError: `to` is a file.
        RunStoppedError: SIGTERM or SIGINT came.
    """
    how, progress = how or ProfileSettings(), progress or Silent()
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file: name a folder")
    data, recipe = TrainingData.of(manifest), _one_process(recipe)
    base = _measure(data, recipe, how, how.steps, "measuring", progress, traced=how.traced, sampled=True)
    found = _summary(data, recipe, how, base)
    verdicts = profiler_report(load_profiler_rules() if rules is None else rules, base.recording)
    levers = choose(recipe, _facts(data, recipe, how, base))
    tried, together = _try_levers(data, recipe, how, base, levers, progress)
    found |= {"advice": tried, "together": together, "headline": headline(found, tried, together)}
    found |= {"rules": verdicts, "trace": _write_trace(to, base.trace) if base.trace else None}
    found |= {"steps": [_rounded(step) for step in base.recording.steps]}
    found |= {"samples": [_rounded(sample) for sample in base.samples]}
    write_report(to, verdicts)
    files.write_json(to / PROFILE_FILE, found)
    return found


def headline(found: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], together: Mapping[str, Any] | None) -> str:
    """What to change first, in a sentence."""
    paid = [one for one in tried if one["verdict"] == "pays"]
    if together and together["verdict"] == "pays" and together["times"] > max(one["times"] for one in paid):
        return f"Change {together['line']}"
    if paid:
        return f"Change {max(paid, key=lambda one: float(one['times']))['line']}"
    if tried and tried[0]["verdict"] == "not tried":
        return f"Change {tried[0]['line']}"
    largest = max(found["phases"], key=lambda name: float(found["phases"][name]["share"]))
    most = f"{largest.replace('_', ' ')} takes {found['phases'][largest]['share']:.0%} of a step"
    if tried:
        num = sum(one["verdict"] != "not tried" for one in tried)
        return f"Change nothing: none of {num} levers tried paid; {most}."
    return f"Change nothing: no lever on the list promises anything here; {most}."


# ---- measuring


@dataclass(slots=True, kw_only=True)
class _Run:
    """What one measurement gave."""

    recording: Recording = field(default_factory=Recording)
    samples: tuple[Sample, ...] = ()
    batch_size: int = 0
    photos: int = 0
    kept: bool = False
    num_frozen: int = 0
    in_memory: bool = False
    threads: int = 1
    decoded: int = 0
    decode_seconds: float = 0.0
    prefill_seconds: float = 0.0
    loader_seconds: float = 0.0
    loader_photos: int = 0
    operators: list[dict[str, Any]] = field(default_factory=list)
    trace: bytes | None = None

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.recording.steps)

    @property
    def rate(self) -> float:
        return self.batch_size * len(self.recording.steps) / self.seconds


class _EnoughError(BintallyError):
    """Enough was measured: ends the training from within."""


class _TimedPhotos(Photos):
    """Photos that keep time. Threads append; nothing is taken away."""

    def __init__(self, paths: Sequence[Path], spec: PixelSpec, *, cache_mb: int = 2048, workers: int = 0) -> None:
        super().__init__(paths, spec, cache_mb=cache_mb, workers=workers)
        self.decodes: list[float] = []
        self.batches: list[tuple[float, float, int]] = []

    def square(self, index: int) -> NDArray[np.uint8]:
        there = bool(self._there.size and self._there[index])
        began = time.perf_counter()
        square = super().square(index)
        if not there:
            self.decodes.append(time.perf_counter() - began)
        return square

    def batch(self, indices: Any, vary: Any = None) -> NDArray[np.float32]:
        began = time.perf_counter()
        made = super().batch(indices, vary)
        self.batches.append((began, time.perf_counter(), len(made)))
        return made


class _TimedShared(Shared):
    """Remembers what the training took from it."""

    def __init__(self, data: TrainingData) -> None:
        super().__init__(data, photos=_TimedPhotos)
        self.num_frozen, self.was_kept = 0, False

    def model(self, recipe: Recipe) -> CountModel:
        model = super().model(recipe)
        self.num_frozen = model.num_frozen
        return model

    def kept(self, *args: Any, **more: Any) -> Kept | None:
        kept = super().kept(*args, **more)
        self.was_kept = kept is not None
        return kept


class _Timer(Listener):
    """Takes the time at each boundary of a step; after the measured steps come the traced ones, then the end."""

    def __init__(
        self, how: ProfileSettings, steps: int, traced: int, clock: float, device: str, progress: Progress
    ) -> None:
        self._how, self._num, self._traced, self._clock, self._progress = how, steps, traced, clock, progress
        self._cuda = device.startswith("cuda")
        self._process = psutil.Process()
        self._mark = self._start = time.perf_counter()
        self._times: dict[str, float] = {}
        self._profiler: Any = None
        self._span: Any = None
        self._left = traced
        self.steps: list[StepTime] = []
        self.first_batch: float | None = None
        self.profiled: Any = None

    def on_loaded(self, step: int) -> None:
        if self.first_batch is None:
            self.first_batch = time.perf_counter()
        self._phase("waiting", "to_device")

    def on_batch(self, step: int, photos: Tensor, classes: Tensor) -> None:
        self._phase("to_device", "forward")

    def on_forward(self, step: int) -> None:
        self._phase("forward", "backward")

    def on_backward(self, step: int) -> None:
        self._phase("backward", "optimizer")

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        self._phase("optimizer", None)
        self._progress.advance(1)
        if self._profiler is not None:
            self._left -= 1
            if self._left == 0:
                self._end()
        elif step > self._how.warmup:
            self._note(step)
        self._mark = time.perf_counter()
        if step == self._how.warmup:
            self._start = self._mark
        if self._profiler is not None:
            self._enter("waiting")

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        self._mark = time.perf_counter()  # validation is no part of a step

    def on_end(self) -> None:
        self._leave()
        if self._profiler is not None:
            self._profiler.stop()
            self.profiled, self._profiler = self._profiler, None

    def _note(self, step: int) -> None:
        memory = self._process.memory_info().rss / 1e6
        gpu = torch.cuda.memory_allocated() / 1e6 if self._cuda else 0.0
        started = self._began - self._clock
        self.steps.append(StepTime(step=step, started=started, rss_mb=memory, gpu_mb=gpu, **self._times))
        late = time.perf_counter() - self._start > self._how.max_seconds and len(self.steps) >= _LEAST_STEPS
        if len(self.steps) < self._num and not late:
            return
        if not self._traced:
            self._end()
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._cuda:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=activities)
        self._profiler.start()

    def _end(self) -> None:
        self.on_end()
        raise _EnoughError("measured")

    def _phase(self, name: str, following: str | None) -> None:
        if self._cuda:
            torch.cuda.synchronize()  # else the time of what was only queued falls to who waits for it
        now = time.perf_counter()
        if name == "waiting":
            self._began = self._mark
        self._times[name] = now - self._mark
        self._mark = now
        if self._profiler is not None:
            self._leave()
            if following:
                self._enter(following)

    def _enter(self, name: str) -> None:
        self._span = torch.profiler.record_function(name)
        self._span.__enter__()

    def _leave(self) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)
            self._span = None


def _measure(
    data: TrainingData,
    recipe: Recipe,
    how: ProfileSettings,
    steps: int,
    task: str,
    progress: Progress,
    *,
    traced: int = 0,
    sampled: bool = False,
) -> _Run:
    total = how.warmup + steps + traced
    size = min(recipe.train.batch_size, len(data.train_paths))
    all_bytes = len(data.train_paths) * recipe.pixels.size**2 * 3
    in_memory = how.epoch == "later" and all_bytes <= recipe.train.cache_mb << 20
    few = _few(data, total * size, recipe.train.seed)
    epochs = math.ceil(total / num_steps(len(few.train_paths), recipe.train.batch_size)) + 1
    keep, views = recipe.train.keep_activations, len(views_of(recipe.augment))
    run = _Run(batch_size=size, photos=len(few.train_paths), in_memory=in_memory)
    shared = _TimedShared(few)
    sampler = Sampler(how.interval)
    timer = _Timer(
        how, steps, traced, time.perf_counter() - sampler.now(), pick_device(recipe.train.device), progress
    )
    with tempfile.TemporaryDirectory(prefix="bintally-profile-") as folder, contextlib.ExitStack() as stack:
        asked = dataclasses.replace(
            recipe,
            train=dataclasses.replace(
                recipe.train,
                epochs=epochs,
                patience=0,
                cache_mb=recipe.train.cache_mb if in_memory else 0,
                # What would not be kept in a training as short as the recipe's is not kept here.
                keep_activations="off" if keep == "auto" and recipe.train.epochs <= views else keep,
            ),
            keep=dataclasses.replace(recipe.keep, folder=folder),
        )
        stack.callback(shared.close)
        photos = shared.parts(asked)[0].photos
        assert isinstance(photos, _TimedPhotos)  # noqa: S101 - the class that was given
        run.threads = recipe.train.threads or torch.get_num_threads()
        if sampled:
            stack.enter_context(sampler)
        if in_memory:
            run.prefill_seconds = _prefill(photos, _workers(recipe))
        progress.begin(task, total)
        began = time.perf_counter()
        try:
            try_out(shared, asked, listeners=[timer])
        except _EnoughError:
            pass
        finally:
            progress.end()
        if timer.profiled is not None:
            run.operators = _operators(timer.profiled, traced)
            run.trace = _trace(timer.profiled, Path(folder))
    first, last = timer.steps[0], timer.steps[-1]
    since, until = first.started, last.started + last.seconds
    clock = timer._clock
    run.samples = sampler.samples
    run.recording = Recording(
        steps=tuple(timer.steps),
        samples=[one for one in run.samples if since <= one.time <= until],
        setup_seconds=(timer.first_batch or began) - began,
        workers=_workers(recipe),
        cores=cores(),
    )
    run.kept, run.num_frozen = shared.was_kept, shared.num_frozen
    run.decoded, run.decode_seconds = len(photos.decodes), sum(photos.decodes)
    for start, end, num in photos.batches:
        if since <= start - clock <= until:
            run.loader_seconds += min(end - clock, until) - (start - clock)
            run.loader_photos += num
    return run


def _few(data: TrainingData, num: int, seed: int) -> TrainingData:
    """As many of the training photos as are needed, by chance, and a handful to validate on."""
    places = np.sort(np.random.default_rng(seed).permutation(len(data.train_paths))[:num])
    some = slice(0, 16)
    return dataclasses.replace(
        data,
        train_paths=tuple(data.train_paths[place] for place in places),
        train_sha256s=tuple(data.train_sha256s[place] for place in places),
        train_classes=data.train_classes[places],
        validation_paths=data.validation_paths[some],
        validation_sha256s=data.validation_sha256s[some],
        validation_groups=data.validation_groups[some],
        validation_labels=data.validation_labels[some],
    )


def _prefill(photos: Photos, workers: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(photos.square, range(len(photos))):
            pass
    return time.perf_counter() - began


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers(recipe: Recipe) -> int:
    return recipe.train.workers or min(os.cpu_count() or 1, 8)  # as Photos


def _one_process(recipe: Recipe) -> Recipe:
    num = recipe.train.processes
    size = max(1, recipe.train.batch_size // num)
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, processes=1, batch_size=size))


def _operators(profiled: Any, steps: int) -> list[dict[str, Any]]:
    events = [one for one in profiled.key_averages() if not one.is_user_annotation and not one.key.startswith("Prof")]

    def own(event: Any) -> float:
        return float(event.self_device_time_total or 0) + float(event.self_cpu_time_total or 0)

    total = sum(own(event) for event in events) or 1.0
    return [
        {
            "name": event.key,
            "calls": round(event.count / steps, 1),
            "cpu_ms": round(event.self_cpu_time_total / steps / 1000, 3),
            "gpu_ms": round(float(event.self_device_time_total or 0) / steps / 1000, 3),
            "share": round(own(event) / total, 4),
        }
        for event in sorted(events, key=own, reverse=True)[:_NUM_OPERATORS]
    ]


def _trace(profiled: Any, folder: Path) -> bytes:
    path = folder / TRACE_FILE
    profiled.export_chrome_trace(str(path))
    return path.read_bytes()


def _write_trace(to: Path, trace: bytes) -> str:
    large = len(trace) > _LARGE_TRACE
    name = f"{TRACE_FILE}.gz" if large else TRACE_FILE
    (to / (TRACE_FILE if large else f"{TRACE_FILE}.gz")).unlink(missing_ok=True)  # of a profile before
    files.write_bytes(to / name, gzip.compress(trace, 6) if large else trace)
    return name


# ---- what was found


def _summary(data: TrainingData, recipe: Recipe, how: ProfileSettings, run: _Run) -> dict[str, Any]:
    steps, seconds = run.recording.steps, run.seconds
    times = [step.seconds for step in steps]
    phases = {name: sum(getattr(step, name) for step in steps) for name in PHASES}
    decode_ms = 1000 * run.decode_seconds / run.decoded if run.decoded else None
    in_advance = run.photos / run.prefill_seconds if run.in_memory and run.prefill_seconds else None
    return {
        "recipe": recipe.tables(),
        "device": pick_device(recipe.train.device),
        "precision": pick_precision(recipe.train),
        "cores": run.recording.cores,
        "torch_threads": run.threads,
        "training_photos": len(data.train_paths),
        "batch_size": run.batch_size,
        "measured_steps": len(steps),
        "source": "kept activations" if run.kept else "memory" if run.in_memory else "disk",
        "photos_per_second": round(run.rate, 2),
        "step_seconds": {
            "mean": round(seconds / len(steps), 5),
            "p50": round(percentile(times, 50), 5),
            "p95": round(percentile(times, 95), 5),
            "max": round(max(times), 5),
        },
        "phases": {
            name: {"seconds": round(value / len(steps), 5), "share": round(value / seconds, 4)}
            for name, value in phases.items()
        },
        "loader": {
            "workers": run.recording.workers,
            "share": round(run.loader_seconds / seconds, 4),
            "photos_per_second": _maybe(run.loader_photos / run.loader_seconds if run.loader_seconds else None),
        },
        "decode": {
            "photos": run.decoded,
            "ms_each": _maybe(decode_ms),
            "photos_per_second": _maybe(in_advance),
        },
        "setup_seconds": round(run.recording.setup_seconds, 2),
        "usage": usage(run.recording.samples),
        "operators": run.operators,
    }


def _facts(data: TrainingData, recipe: Recipe, how: ProfileSettings, run: _Run) -> Measured:
    gpus = [one.gpu_percent for one in run.recording.samples if one.gpu_percent is not None]
    auto = dataclasses.replace(recipe.train, precision="auto")
    unfrozen = recipe.model.unfrozen_stages
    return Measured(
        shares={name: sum(getattr(s, name) for s in run.recording.steps) / run.seconds for name in PHASES},
        cores=run.recording.cores,
        threads=run.threads,
        workers=run.recording.workers,
        in_memory=run.in_memory or how.epoch == "first",  # a cache is of no use to the first epoch
        cache_mb=(len(data.train_paths) * recipe.pixels.size**2 * 3 >> 20) + 1,
        free_mb=psutil.virtual_memory().available >> 20,
        precision=pick_precision(recipe.train),
        native_bf16=pick_precision(auto) == "bf16-mixed",
        kept=run.kept,
        num_frozen=run.num_frozen,
        frozen_share=run.num_frozen / max(1, run.num_frozen + unfrozen),  # a stage costs about what another does
        gpu_p95=percentile(gpus, 95) if gpus else None,
    )


# ---- trying


def _try_levers(
    data: TrainingData, recipe: Recipe, how: ProfileSettings, base: _Run, levers: Sequence[Lever], progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    tried, runs = [_described(lever) for lever in levers], []
    for lever, one in zip(levers[: how.tries], tried, strict=False):
        runs.append(_tried(data, lever.applied(recipe), how, lever.name, one, progress))
    if not any(runs):
        for one in tried[: len(runs)]:
            _judge(one, [base], None)
        return tried, None
    # The machine's own pace drifts when others use it: a lever has to beat the recipe before and after.
    bases = [base, _measure(data, recipe, how, how.try_steps, "measuring again", progress)]
    for one, run in zip(tried, runs, strict=False):
        _judge(one, bases, run)
        if run is not None and run.kept and not base.kept:
            seconds = max(0.0, run.recording.setup_seconds - base.recording.setup_seconds)
            whole = seconds * len(data.train_paths) / run.photos
            one["line"] += f" What is kept is computed once, about {whole:,.0f} s for all training photos."
    paid = [lever for lever, one in zip(levers, tried, strict=True) if one["verdict"] == "pays"]
    if len(paid) < 2:
        return tried, None
    changed, names = recipe, ", ".join(lever.name for lever in paid)
    for lever in paid:
        changed = lever.applied(changed)
    together: dict[str, Any] = {"name": names, "flags": [flag for lever in paid for flag in lever.flags]}
    _judge(together, bases, _tried(data, changed, how, f"{names} together", together, progress))
    return tried, together


def _described(lever: Lever) -> dict[str, Any]:
    return {
        "name": lever.name,
        "flags": lever.flags,
        "why": lever.why,
        "expected": round(lever.expected, 2),
        "changes_training": lever.changes_training,
        "verdict": "not tried",
        "times": None,
        "before": None,
        "after": None,
        "line": f"{lever.name}: {lever.expected:.1f} times expected, not tried.",
    }


def _tried(
    data: TrainingData, recipe: Recipe, how: ProfileSettings, name: str, one: dict[str, Any], progress: Progress
) -> _Run | None:
    try:
        return _measure(data, recipe, how, how.try_steps, f"trying {name}", progress)
    except RunStoppedError:
        raise
    except (BintallyError, torch.OutOfMemoryError) as error:
        # A setting that cannot be had here is an answer, not the end of the profile.
        one["fault"] = " ".join(str(error).split())[:300]
        return None


def _judge(one: dict[str, Any], bases: Sequence[_Run], run: _Run | None) -> None:
    if run is None:
        one |= {"verdict": "failed", "times": None, "before": None, "after": None}
        one["line"] = f"{one['name']}: cannot be had here: {one['fault']}."
        return
    before = sum(base.rate for base in bases) / len(bases)
    times = run.rate / before
    # The means pay, and so do the medians: a single slow step makes no gain, nor does a machine that had a bad minute.
    least = min(run.rate / max(base.rate for base in bases), _median_rate(run) / max(map(_median_rate, bases)))
    verdict = "pays" if least >= _PAYS else "does not pay"
    one |= {"verdict": verdict, "times": round(times, 3), "before": round(before, 2), "after": round(run.rate, 2)}
    figures = f"{times:.2f} times, measured: {before:,.1f} → {run.rate:,.1f} photos/s"
    one["line"] = f"{one['name']}: {figures}." if verdict == "pays" else f"{one['name']}: did not pay: {figures}."
    if verdict != "pays" and times >= _PAYS:
        rates = " and ".join(f"{base.rate:,.1f}" for base in bases)
        one["line"] += f" That is within what the machine itself varies by: without it, {rates}."


def _median_rate(run: _Run) -> float:
    return run.batch_size / percentile([step.seconds for step in run.recording.steps], 50)


def _maybe(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _rounded(one: StepTime | Sample) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 5)
        if isinstance(value, list):
            return [short(each) for each in value]
        if isinstance(value, dict):
            return {key: short(each) for key, each in value.items()}
        return value

    found: dict[str, Any] = short(settings.as_dict(one))
    return found
