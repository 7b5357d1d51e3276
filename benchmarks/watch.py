"""What `--watch` costs a training: real photos, ResNet50, every 50 steps read, the last stage or the head alone trained.

BINTALLY_BENCH_KEPT names a folder of activations that stays, so that they need not be computed for this alone.

Trainings side by side drift by more than is measured (each epoch writes a model of 94 MB). So the watcher's own time is
taken, from inside: at the boundaries of steps and epochs and in its hooks. Where a step takes long, a training also
reads every fourth step: what a read step takes more than its neighbours, and what the watcher does at every step, is
held against fifty.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

from torch import Tensor

from benchmarks import Row, Table
from benchmarks._real import backbone, some_photos
from bintally.data.manifest import Manifest
from bintally.learn.listen import Listener, Start
from bintally.learn.recipe import Recipe, read_recipe
from bintally.learn.train import train
from bintally.learn.watch import Watcher, WatchSettings, load_rules

EVERY = 50
LIMIT = 1.05
_OFTEN = 4
_WARM_UP = 8
_ROUNDS = 3


class TimedWatcher(Watcher):
    """A watcher that notes how long it is at work in each step, in its hooks, and at the ends of epochs."""

    def __init__(self, every: int) -> None:
        super().__init__(WatchSettings(every=every, stop_on=("ExplodingTensor",)), load_rules())
        self.seconds: dict[int, float] = {}
        self.others = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.seconds.values()) + self.others

    def on_start(self, start: Start) -> None:
        """Hangs the recorder on the model."""
        began = time.perf_counter()
        super().on_start(start)
        for name in ("_layer_hook", "_relu_hook"):
            setattr(self._told, name, self._timed_hooks(getattr(self._told, name)))
        self.others += time.perf_counter() - began

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """Notes losses and confusion."""
        began = time.perf_counter()
        super().on_epoch(step, row, confusion)
        self.others += time.perf_counter() - began

    def _timed_hooks(self, make: Callable[[str], Any]) -> Callable[[str], Any]:
        def made(layer: str) -> Any:
            hook = make(layer)

            def timed(*args: Any) -> None:
                began = time.perf_counter()
                hook(*args)
                self.others += time.perf_counter() - began

            return timed

        return made

    def _timed(self, step: int, began: float) -> None:
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began

    def on_batch(self, step: int, photos: Tensor, classes: Tensor) -> None:
        """Reads inputs and labels."""
        began = time.perf_counter()
        super().on_batch(step, photos, classes)
        self._timed(step, began)

    def on_backward(self, step: int) -> None:
        """Reads gradients."""
        began = time.perf_counter()
        super().on_backward(step)
        self._timed(step, began)

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """Reads weights."""
        began = time.perf_counter()
        super().on_step(step, epoch, loss)
        self._timed(step, began)


@dataclass(kw_only=True)
class StepClock(Listener):
    """Notes how long each step took, all listeners before it included; and when the first one began."""

    steps: dict[int, float] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0

    def on_start(self, start: Start) -> None:
        """Everything is there, kept activations too."""
        self.began = self._mark = time.perf_counter()

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """The end of a step."""
        now = time.perf_counter()
        self.steps[step], self._mark = now - self._mark, now

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """Validation is no part of a step."""
        self.ended = self._mark = time.perf_counter()


def _recipe(kept: Path, epochs: int, unfrozen: int) -> Recipe:
    flags = {
        "model": {"backbone": backbone(), "unfrozen_stages": unfrozen},
        "train": {"epochs": epochs, "patience": 0, "keep_activations": "on"},
        "keep": {"folder": os.environ.get("BINTALLY_BENCH_KEPT", str(kept))},
    }
    return read_recipe("seed", flags, environ={})


def _last_stage(manifest: Manifest, folder: Path, steps: int) -> Row:
    watcher, clock = TimedWatcher(_OFTEN), StepClock()
    per_epoch = max(1, len(manifest.of_part("train")) // 32)
    train(manifest, folder / "stage", _recipe(folder / "acts", -(-steps // per_epoch), 1), listeners=[watcher, clock])
    warm = {step: seconds for step, seconds in clock.steps.items() if step > _WARM_UP}
    read = [seconds for step, seconds in warm.items() if step % _OFTEN == 0]
    plain = [seconds for step, seconds in warm.items() if step % _OFTEN]
    always = mean(watcher.seconds[step] for step in warm if step % _OFTEN)
    step = median(plain) - always
    extra = max(0.0, median(read) - median(plain))
    fifty = EVERY * step
    return Row(
        what=f"last stage unfrozen: fifty steps, one of them read ({len(read)} read, {len(plain)} not)",
        ours=f"{fifty + EVERY * always + extra:.2f} s",
        alternative=f"{fifty:.2f} s",
        ratio=(fifty + EVERY * always + extra) / fifty,
        limit=LIMIT,
        at_most=True,
    )


def _head_alone(manifest: Manifest, folder: Path, steps: int) -> Row:
    per_epoch = max(1, len(manifest.of_part("train")) // 32)
    recipe = _recipe(folder / "acts", -(-steps // per_epoch), 0)
    runs = []
    for number in range(_ROUNDS + 1):  # the first one warms up
        watcher, clock = TimedWatcher(EVERY), StepClock()
        train(manifest, folder / f"head-{number}", recipe, listeners=[clock, watcher])
        whole = clock.ended - clock.began
        runs.append((whole / (whole - watcher.total), whole, whole - watcher.total))
    ratio, ours, alternative = sorted(runs[1:])[_ROUNDS // 2]
    return Row(
        what=f"head alone over kept activations: a training of {steps} steps, whole, less the watcher's own time",
        ours=f"{ours:.2f} s",
        alternative=f"{alternative:.2f} s",
        ratio=ratio,
        limit=LIMIT,
        at_most=True,
    )


def main() -> Table:
    """Trains with a watcher and without."""
    num = int(os.environ.get("BINTALLY_BENCH_PHOTOS", "2000"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = some_photos(folder / "bins", num)
        rows = [_head_alone(manifest, folder, 250), _last_stage(manifest, folder, 56)]
    return Table(title=f"--watch, every {EVERY} steps read, {num:,} real photos, ResNet50", rows=rows)
