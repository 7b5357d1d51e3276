"""Listeners hear every step and epoch, in order."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bintally.data.manifest import Manifest
from bintally.learn.listen import Listener, Start
from bintally.learn.recipe import Recipe
from bintally.learn.train import train


class Hears(Listener):
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_start(self, start: Start) -> None:
        self.told.append(("start", start.done, start.steps_per_epoch))
        self.model = start.model

    def on_batch(self, step: int, photos: Tensor, classes: Tensor) -> None:
        self.told.append(("batch", step, tuple(photos.shape), tuple(classes.shape)))

    def on_backward(self, step: int) -> None:
        assert self.model.head.weight.grad is not None
        self.before = self.model.head.weight.detach().clone()
        self.told.append(("backward", step))

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        assert not self.model.head.weight.equal(self.before)
        self.told.append(("step", step, epoch))

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        self.told.append(("epoch", step, row["epoch"], confusion.shape, int(confusion.sum())))

    def on_end(self) -> None:
        self.told.append(("end",))


def test_what_is_told_and_when(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    hears = Hears()
    train(make_manifest(num=30), tmp_path / "run", tiny(epochs=2), listeners=[hears])
    steps = [[("batch", k, (8, 3, 32, 32), (8,)), ("backward", k), ("step", k, 1 + (k > 2))] for k in (1, 2, 3, 4)]
    epochs = [("epoch", 2, 1, (6, 6), 6), ("epoch", 4, 2, (6, 6), 6)]
    assert hears.told == [
        ("start", 0, 2),
        *(steps[0] + steps[1]),
        epochs[0],
        *(steps[2] + steps[3]),
        epochs[1],
        ("end",),
    ]
