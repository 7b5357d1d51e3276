"""The profiler rules: pure judgements over how long steps took and what the machine did, with familiar thresholds.

Names, meanings and default thresholds are those of the managed profiler that many know (Amazon SageMaker Debugger's
profiler rules, https://docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-profiler-rules.html), but for
`patience`: theirs waits for 1,000 samples at two a second, a profile here is shorter. Where its documentation leaves
room, the docstring of a rule says how it is read here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from bintally import settings
from bintally.learn.history import Finding
from bintally.learn.recording import ProfilerRule, Recording
from bintally.learn.sampling import Sample, percentile

Percent = Annotated[float, Field(ge=0, le=100)]
Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=1)]

_NO_GPU = "not applicable: no GPU"


def _finding(rule: ProfilerRule, where: str, value: float, threshold: float, message: str, step: int = 0) -> Finding:
    return Finding(
        rule=type(rule).__name__, step=step, where=where, value=value, threshold=threshold, message=message
    )


def _too_few(recording: Recording, patience: int) -> str | None:
    num = len(recording.samples)
    return f"not applicable: {num} samples, {patience} are the least" if num < patience else None


def _needs_gpus(recording: Recording, patience: int, num: int = 1) -> str | None:
    if recording.num_gpus < num:
        return _NO_GPU if num == 1 else f"not applicable: fewer than {num} GPUs"
    return _too_few(recording, patience)


def _gpu_values(recording: Recording, index: int, field: str) -> list[float]:
    return [getattr(gpu, field) for one in recording.samples for gpu in one.gpus if gpu.index == index]


def _gpu_indices(recording: Recording) -> list[int]:
    return sorted({gpu.index for sample in recording.samples for gpu in sample.gpus})


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """The 95th percentiles of processor, GPU and GPU memory are all below their thresholds: room for larger batches."""

    cpu_threshold_p95: Percent = 70.0
    gpu_threshold_p95: Percent = 70.0
    gpu_memory_threshold_p95: Percent = 70.0
    patience: Whole = 10
    advice: ClassVar[str] = (
        "Neither the GPU nor its memory is busy: double train.batch_size, and set the learning rate again, or take a "
        "smaller GPU."
    )

    def why_not(self, recording: Recording) -> str | None:
        """GPUs alone."""
        return _needs_gpus(recording, self.patience)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields one finding per GPU."""
        cpu = percentile([sample.cpu_percent for sample in recording.samples], 95)
        for index in _gpu_indices(recording):
            gpu = percentile(_gpu_values(recording, index, "percent"), 95)
            memory = percentile(_gpu_values(recording, index, "memory_percent"), 95)
            low = gpu < self.gpu_threshold_p95 and memory < self.gpu_memory_threshold_p95
            if low and cpu < self.cpu_threshold_p95:
                text = f"95th percentiles: GPU {gpu:.0f} %, its memory {memory:.0f} %, processors {cpu:.0f} %"
                yield _finding(self, f"GPU {index}", gpu, self.gpu_threshold_p95, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class LowGPUUtilization:
    """The 95th percentile of a GPU's utilisation is below `threshold_p95`.

    Or it swings: the 95th percentile is not, but the 5th is below `threshold_p5`.
    """

    threshold_p95: Percent = 70.0
    threshold_p5: Percent = 10.0
    patience: Whole = 10
    advice: ClassVar[str] = (
        "The GPU waits. See which phase it waits in: for data (workers, cache), for the processor between small "
        "operations (larger batches), or for checkpoints. A smaller GPU may do as well."
    )

    def why_not(self, recording: Recording) -> str | None:
        """GPUs alone."""
        return _needs_gpus(recording, self.patience)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding per GPU."""
        for index in _gpu_indices(recording):
            values = _gpu_values(recording, index, "percent")
            high, low = percentile(values, 95), percentile(values, 5)
            if high < self.threshold_p95:
                text = f"95th percentile of utilisation {high:.0f} %"
                yield _finding(self, f"GPU {index}", high, self.threshold_p95, text)
            elif low < self.threshold_p5:
                text = f"utilisation swings: 5th percentile {low:.0f} %, 95th {high:.0f} %"
                yield _finding(self, f"GPU {index}", low, self.threshold_p5, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CPUBottleneck:
    """Processors above `cpu_threshold` while the GPUs are below `gpu_threshold`, for over `threshold` % of the time.

    Without a GPU, busy processors are what is wanted: the rule says nothing.
    """

    threshold: Percent = 50.0
    gpu_threshold: Percent = 10.0
    cpu_threshold: Percent = 90.0
    patience: Whole = 10
    advice: ClassVar[str] = (
        "The processors are full while the GPU waits for them: keep photos in memory (train.cache_mb), store them "
        "smaller, augment less, or take a machine with more cores per GPU."
    )

    def why_not(self, recording: Recording) -> str | None:
        """GPUs alone."""
        return _needs_gpus(recording, self.patience)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding."""
        full = [one.cpu_percent > self.cpu_threshold and _idle(one, self.gpu_threshold) for one in recording.samples]
        share = 100 * sum(full) / len(full)
        if share > self.threshold:
            text = f"processors above {self.cpu_threshold:g} % and GPUs idle for {share:.0f} % of the time"
            yield _finding(self, "processors", share, self.threshold, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class IOBottleneck:
    """The processors wait for the disk, above `io_threshold`, for more than `threshold` % of the time.

    With GPUs only moments count in which they are idle, too, below `gpu_threshold`.
    """

    threshold: Percent = 50.0
    gpu_threshold: Percent = 10.0
    io_threshold: Percent = 50.0
    patience: Whole = 10
    advice: ClassVar[str] = (
        "The disk is the limit: copy the photos to a local disk, keep them in memory (train.cache_mb), or store them "
        "in the size that is trained on; more train.workers hide the waiting of a slow but wide store."
    )

    def why_not(self, recording: Recording) -> str | None:
        """Any machine."""
        return _too_few(recording, self.patience)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding."""
        waits = [one.io_wait > self.io_threshold and _idle(one, self.gpu_threshold) for one in recording.samples]
        share = 100 * sum(waits) / len(waits)
        if share > self.threshold:
            text = f"io wait above {self.io_threshold:g} % for {share:.0f} % of the time"
            yield _finding(self, "disk", share, self.threshold, text)


def _idle(sample: Sample, threshold: float) -> bool:
    percent = sample.gpu_percent
    return percent is None or percent < threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataloader:
    """Loader threads number outside `min_threshold` to `max_threshold` % of the cores, or training waits for data.

    The familiar rule knows the number alone; a loader that is too slow at any number is found here by the share of
    the steps' time, `waiting_threshold` %, that was spent waiting for batches.
    """

    min_threshold: Annotated[float, Field(ge=0)] = 70.0
    max_threshold: Positive = 200.0
    waiting_threshold: Percent = 20.0
    advice: ClassVar[str] = (
        "Set train.workers to about the number of cores (0 does); if training waits all the same, keep photos in memory "
        "(train.cache_mb), fetch them smaller, move them to a nearer disk, or augment less."
    )

    def why_not(self, recording: Recording) -> str | None:
        """Any machine."""
        return None

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding for the number, one for the waiting."""
        share = 100 * recording.workers / recording.cores
        limit = self.min_threshold if share < self.min_threshold else self.max_threshold
        if share < self.min_threshold or share > self.max_threshold:
            text = f"{recording.workers} loader threads on {recording.cores} cores"
            yield _finding(self, "loader threads", share, limit, text)
        total = sum(step.seconds for step in recording.steps)
        waited = 100 * sum(step.waiting for step in recording.steps) / total if total else 0.0
        if waited > self.waiting_threshold:
            text = f"{waited:.0f} % of the time is spent waiting for data"
            yield _finding(self, "waiting for data", waited, self.waiting_threshold, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutlier:
    """More than `n_outliers` steps took over `stddev` standard deviations longer than the mean."""

    stddev: Positive = 3.0
    n_outliers: Annotated[int, Field(ge=0)] = 10
    advice: ClassVar[str] = (
        "Single steps take much longer: see at which steps. Regular ones are checkpoints, logs or a loader that cannot "
        "keep up; irregular ones are a machine shared with others, swapping, or a slow store."
    )

    def why_not(self, recording: Recording) -> str | None:
        """Of n values at most n / (1 + stddev²) lie that far above the mean (Cantelli): too few cannot hold so many."""
        least = math.floor((self.n_outliers + 1) * (1 + self.stddev**2)) + 1
        num = len(recording.steps)
        return f"not applicable: {num} steps, --steps {least} is the least" if num < least else None

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields one finding per outlier, when there are too many."""
        times = [step.seconds for step in recording.steps]
        mean = sum(times) / len(times)
        deviation = math.sqrt(sum((one - mean) ** 2 for one in times) / len(times))
        limit = mean + self.stddev * deviation
        out = [step for step in recording.steps if step.seconds > limit]
        if len(out) > self.n_outliers:
            for step in out:
                text = f"{step.seconds:.3g} s, the mean is {mean:.3g} s"
                yield _finding(self, f"step {step.step}", step.seconds, limit, text, step.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class GPUMemoryIncrease:
    """A GPU's memory in use rose by more than `increase` percentage points, means of first and last `window` samples."""

    increase: Percent = 5.0
    window: Whole = 10
    patience: Whole = 20
    advice: ClassVar[str] = (
        "Memory grows while nothing should: look for losses or activations kept with their graph (take .item() or "
        ".detach()), lists that grow each step, or photos of changing sizes."
    )

    def why_not(self, recording: Recording) -> str | None:
        """GPUs alone."""
        return _needs_gpus(recording, self.patience)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding per GPU."""
        for index in _gpu_indices(recording):
            values = _gpu_values(recording, index, "memory_percent")
            first, last = values[: self.window], values[-self.window :]
            rise = sum(last) / len(last) - sum(first) / len(first)
            if rise > self.increase:
                yield _finding(
                    self, f"GPU {index}", rise, self.increase, f"memory in use rose by {rise:.1f} points of its size"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryIncrease:
    """The process's memory rose by more than `increase` % and `least_mb` over the measured steps, and went on rising.

    Means of the first, the middle and the last `window` steps are compared: in the second half it has to rise by a
    quarter of the whole or more, so that memory taken once is no finding. Ours: the familiar rules know the GPU's alone.
    """

    increase: Percent = 5.0
    least_mb: Annotated[float, Field(ge=0)] = 50.0
    window: Whole = 5
    patience: Whole = 20
    advice: ClassVar[str] = (
        "The process grows with every step until the machine ends it: look for losses or outputs kept with their graph "
        "(take .item() or .detach()), lists that grow each step, and caches without a bound."
    )

    def why_not(self, recording: Recording) -> str | None:
        """Any machine."""
        num = len(recording.steps)
        return f"not applicable: {num} steps, {self.patience} are the least" if num < self.patience else None

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding."""
        values = [step.rss_mb for step in recording.steps]
        middle = (len(values) - self.window) // 2
        first, half, last = (
            sum(some) / len(some)
            for some in (values[: self.window], values[middle : middle + self.window], values[-self.window :])
        )
        rise = last - first
        share = 100 * rise / first if first else 0.0
        if share > self.increase and rise > self.least_mb and last - half > rise / 4:
            a_step = rise / (len(values) - self.window)
            text = f"memory rose from {first:,.0f} to {last:,.0f} MB, {a_step:,.1f} MB a step"
            yield _finding(self, "memory", share, self.increase, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxInitializationTime:
    """It took more than `threshold` minutes until the first batch."""

    threshold: Positive = 20.0
    advice: ClassVar[str] = (
        "Keep the backbone's snapshot on a local disk, and let kept activations be computed once (train.keep_activations) "
        "for all runs on these photos."
    )

    def why_not(self, recording: Recording) -> str | None:
        """Any machine."""
        return None

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding."""
        minutes = recording.setup_seconds / 60
        if minutes > self.threshold:
            yield _finding(self, "start", minutes, self.threshold, f"{minutes:.0f} minutes until the first batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancing:
    """The mean utilisations of the GPUs differ by more than `threshold`, as a share of the busiest one's."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.2
    patience: Whole = 10
    advice: ClassVar[str] = (
        "One GPU works more than another: batches should share evenly (train.batch_size a multiple of train.processes), "
        "and nothing but training should run on them."
    )

    def why_not(self, recording: Recording) -> str | None:
        """Two GPUs are the least."""
        return _needs_gpus(recording, self.patience, 2)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields at most one finding."""
        means = {}
        for index in _gpu_indices(recording):
            values = _gpu_values(recording, index, "percent")
            means[index] = sum(values) / len(values)
        top, least = max(means, key=lambda one: means[one]), min(means, key=lambda one: means[one])
        apart = (means[top] - means[least]) / means[top] if means[top] else 0.0
        if apart > self.threshold:
            text = f"GPU {top} at {means[top]:.0f} %, GPU {least} at {means[least]:.0f} %"
            yield _finding(self, f"GPU {least}", apart, self.threshold, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverallSystemUsage:
    """No judgement: the means and percentiles of what was used are in the details. It never fires."""

    advice: ClassVar[str] = "What was used of the machine while the measured steps ran."

    def why_not(self, recording: Recording) -> str | None:
        """Any machine."""
        return _too_few(recording, 1)

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Yields nothing."""
        yield from ()


PROFILER_RULES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        *(BatchSize, LowGPUUtilization, CPUBottleneck, IOBottleneck, Dataloader, StepOutlier),
        *(GPUMemoryIncrease, MemoryIncrease, MaxInitializationTime, LoadBalancing, OverallSystemUsage),
    )
}
"""The rules by name, in the order in which they are reported."""


def load_profiler_rules(path: Path | None = None) -> dict[str, ProfilerRule]:
    """The rules with their thresholds: the familiar ones, or a TOML file's.

    A table per rule, a key per threshold, as in `[StepOutlier] n_outliers = 2`; `enabled = false` leaves a rule out.

    Raises:
        SettingsError: a table is no rule, or a key none of its thresholds.
    """
    return settings.fill_set(PROFILER_RULES, path)
