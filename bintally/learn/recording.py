"""What a profile recorded: where each step's time went, and what the machine did; and what a rule on it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from bintally.learn.history import Finding
from bintally.learn.sampling import Sample, percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Where one training step's time went, in seconds.

    Attributes:
        step: its number, from 1.
        started: seconds since the profile began.
        waiting: for the loader to give the batch.
        to_device: bringing it there, in the memory order that is asked for.
        forward: network and loss.
        backward: gradients.
        optimizer: new weights, clipping, bookkeeping.
        rss_mb: memory of the process afterwards.
        gpu_mb: memory that tensors take on the GPU afterwards.
    """

    step: int
    started: float = 0.0
    waiting: float = 0.0
    to_device: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0
    rss_mb: float = 0.0
    gpu_mb: float = 0.0

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.waiting + self.to_device + self.forward + self.backward + self.optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a profile recorded: the measured steps, and the samples taken meanwhile.

    Attributes:
        steps: in order.
        samples: in order.
        setup_seconds: from the start to the first batch.
        workers: threads that read photos.
        cores: of this machine.
    """

    steps: Sequence[StepTime] = ()
    samples: Sequence[Sample] = ()
    setup_seconds: float = 0.0
    workers: int = 1
    cores: int = 1

    @property
    def num_gpus(self) -> int:
        """How many GPUs the samples tell of."""
        return max((len(sample.gpus) for sample in self.samples), default=0)


class ProfilerRule(Protocol):
    """A rule: its settings are its fields, its judgement a pure function of the recording."""

    advice: ClassVar[str]

    def why_not(self, recording: Recording) -> str | None:
        """Why the rule says nothing of this recording; None when it does."""

    def findings(self, recording: Recording) -> Iterator[Finding]:
        """Everything where the condition held."""


def usage(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """What was used, each as mean, 50th, 95th percentile and largest value: per cent, or MB and MB/s by their names."""
    series: dict[str, list[float]] = {
        "cpu_percent": [one.cpu_percent for one in samples],
        "process_cpu_percent": [one.process_cpu for one in samples],
        "io_wait_percent": [one.io_wait for one in samples],
        "rss_mb": [one.rss_mb for one in samples],
        "read_mb_s": [one.read_mb_s for one in samples],
        "write_mb_s": [one.write_mb_s for one in samples],
    }
    for core in range(max((len(one.cpu) for one in samples), default=0)):
        series[f"cpu_{core}_percent"] = [one.cpu[core] for one in samples if core < len(one.cpu)]
    for index in sorted({gpu.index for one in samples for gpu in one.gpus}):
        gpus = [gpu for one in samples for gpu in one.gpus if gpu.index == index]
        series[f"gpu_{index}_percent"] = [gpu.percent for gpu in gpus]
        series[f"gpu_{index}_memory_mb"] = [gpu.memory_mb for gpu in gpus]
    return {
        name: {
            "mean": round(sum(values) / len(values), 2),
            "p50": round(percentile(values, 50), 2),
            "p95": round(percentile(values, 95), 2),
            "max": round(max(values), 2),
        }
        for name, values in series.items()
        if values
    }
