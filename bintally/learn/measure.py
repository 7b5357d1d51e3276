"""Measuring a training: some steps of the real loop, with the time at each boundary and samples of the machine."""

import contextlib
import dataclasses
import math
import os
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

from bintally.cores import num_cores
from bintally.errors import BintallyError
from bintally.learn.device import pick_device
from bintally.learn.frozen import Kept
from bintally.learn.kept import views_of
from bintally.learn.listen import Listener
from bintally.learn.loader import Photos, num_steps
from bintally.learn.material import TrainingData
from bintally.learn.model import CountModel
from bintally.learn.recipe import Recipe
from bintally.learn.recording import Recording, StepTime
from bintally.learn.sampling import Sample, Sampler
from bintally.learn.shared import Shared
from bintally.learn.train import try_out
from bintally.pixels import PixelSpec
from bintally.progress import Progress

TRACE_FILE = "trace.json"
PHASES = ("waiting", "to_device", "forward", "backward", "optimizer")
"""The phases of a step, in order. They add up to it."""

LEAST_STEPS = 3
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

    steps: Annotated[int, Field(ge=LEAST_STEPS)] = 30
    warmup: Annotated[int, Field(ge=0)] = 5
    traced: Annotated[int, Field(ge=0)] = 3
    epoch: Literal["first", "later"] = "later"
    interval: Annotated[float, Field(ge=0.01)] = 0.1
    tries: Annotated[int, Field(ge=0)] = 3
    try_steps: Annotated[int, Field(ge=LEAST_STEPS)] = 15
    max_seconds: Annotated[float, Field(gt=0)] = 60.0


@dataclass(slots=True, kw_only=True)
class Measurement:
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
        """Of all measured steps."""
        return sum(step.seconds for step in self.recording.steps)

    @property
    def rate(self) -> float:
        """Photos a second."""
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
        late = time.perf_counter() - self._start > self._how.max_seconds and len(self.steps) >= LEAST_STEPS
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


def measure(
    data: TrainingData,
    recipe: Recipe,
    how: ProfileSettings,
    steps: int,
    task: str,
    progress: Progress,
    scratch: Path,
    *,
    traced: int = 0,
    sampled: bool = False,
) -> Measurement:
    """Trains for some steps and tells how they went. Nothing that is trained stays.

    Args:
        data: all photos of the training; as many are used as the steps need.
        recipe: what would be trained, in one process.
        how: how it is profiled.
        steps: how many steps are measured.
        task: what the progress calls it.
        progress: is told how far it is.
        scratch: a folder for activations that are kept, which the next measurement uses again, and for the trace.
        traced: steps after them under torch's profiler.
        sampled: whether the machine is sampled meanwhile.
    """
    total = how.warmup + steps + traced
    size = min(recipe.train.batch_size, len(data.train_paths))
    all_bytes = len(data.train_paths) * recipe.pixels.size**2 * 3
    in_memory = how.epoch == "later" and all_bytes <= recipe.train.cache_mb << 20
    few = _few(data, total * size, recipe.train.seed)
    keep, views = recipe.train.keep_activations, len(views_of(recipe.augment))
    # More than there are views: else "auto" would keep nothing here that it keeps in the training itself.
    epochs = max(math.ceil(total / num_steps(len(few.train_paths), recipe.train.batch_size)), views) + 1
    run = Measurement(batch_size=size, photos=len(few.train_paths), in_memory=in_memory)
    shared = _TimedShared(few)
    sampler = Sampler(how.interval)
    timer = _Timer(
        how, steps, traced, time.perf_counter() - sampler.now(), pick_device(recipe.train.device), progress
    )
    with contextlib.ExitStack() as stack:
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
            keep=dataclasses.replace(recipe.keep, folder=str(scratch)),
            # A first epoch decodes: what earlier runs left decoded on disk would hide that.
            squares=dataclasses.replace(recipe.squares, max_gb=0.0) if how.epoch == "first" else recipe.squares,
        )
        stack.callback(shared.close)
        photos = shared.parts(asked)[0].photos
        assert isinstance(photos, _TimedPhotos)  # noqa: S101 - the class that was given
        run.threads = recipe.train.threads or torch.get_num_threads()
        if sampled:
            stack.enter_context(sampler)
        if in_memory:
            run.prefill_seconds = _prefill(photos, num_workers(recipe))
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
            timer.profiled.export_chrome_trace(str(scratch / TRACE_FILE))
            run.trace = (scratch / TRACE_FILE).read_bytes()
    first, last = timer.steps[0], timer.steps[-1]
    since, until = first.started, last.started + last.seconds
    clock = timer._clock
    run.samples = sampler.samples
    run.recording = Recording(
        steps=tuple(timer.steps),
        samples=[one for one in run.samples if since <= one.time <= until],
        setup_seconds=(timer.first_batch or began) - began,
        workers=num_workers(recipe),
        cores=num_cores(),
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


def num_workers(recipe: Recipe) -> int:
    """Threads that read photos."""
    return recipe.train.workers or min(os.cpu_count() or 1, 8)  # as Photos


def one_process(recipe: Recipe) -> Recipe:
    """What one process of the recipe's training does."""
    num = recipe.train.processes * recipe.train.hosts
    size = max(1, recipe.train.batch_size // num)
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, processes=1, hosts=1, batch_size=size))


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
