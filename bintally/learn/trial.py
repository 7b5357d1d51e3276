"""One trial of a tuning: a short training whose photos, frozen layers and kept activations the next one uses again."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bintally.data.manifest import read_manifest
from bintally.errors import BintallyError
from bintally.learn.listen import Listener
from bintally.learn.material import TrainingData
from bintally.learn.recipe import Recipe
from bintally.learn.shared import Shared
from bintally.learn.train import try_out
from bintally.scores import per_photo

GoOn = Callable[[int, Mapping[str, float]], bool]
"""(epoch, figures of the best epoch so far) → whether the training goes on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tried:
    """How a trial went.

    Attributes:
        figures: of its best epoch on the validation part, as `scores.figures` names them.
        best_epoch: which one that was, from 1.
        epochs: how many were trained.
        stopped: whether it was stopped because it was hopeless.
        per_photo: (n,) negative log-likelihood of each validation photo at the best epoch; empty when stopped.
    """

    figures: dict[str, float]
    best_epoch: int
    epochs: int
    stopped: bool
    per_photo: NDArray[np.float64]


class Trainer:
    """Runs trials one after the other in this process.

    Args:
        manifest: the split manifest; only its train and validation parts are read.
        threads: of torch.
    """

    def __init__(self, manifest: Path, *, threads: int) -> None:
        self._shared = Shared(TrainingData.of(read_manifest(manifest)), several=True)
        self._threads = threads

    def run(self, recipe: Recipe, go_on: GoOn) -> Tried:
        """Trains once, writing nothing.

        Raises:
            RunError: the training failed by itself: its loss became infinite.
        """
        listener = _Listener(go_on)
        recipe = replace(recipe, train=replace(recipe.train, threads=self._threads))
        try:
            nll = per_photo(try_out(self._shared, recipe, listeners=[listener]))["nll"]
        except _HopelessError:
            nll = np.zeros(0)
        return Tried(
            figures=listener.figures,
            best_epoch=listener.best_epoch,
            epochs=listener.epochs,
            stopped=not len(nll),
            per_photo=nll,
        )

    def close(self) -> None:
        """Lets threads and memory go."""
        self._shared.close()


class _HopelessError(BintallyError):
    """The pruner ended the trial."""


class _Listener(Listener):
    # Follows the epoch that the training would keep: the one with the least negative log-likelihood.
    def __init__(self, go_on: GoOn) -> None:
        self._go_on = go_on
        self.figures: dict[str, float] = {}
        self.best_epoch = self.epochs = 0

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        found = {name.removeprefix(_PREFIX): value for name, value in row.items() if name.startswith(_PREFIX)}
        self.epochs = row["epoch"]
        if found["nll"] < self.figures.get("nll", math.inf):
            self.figures, self.best_epoch = found, self.epochs
        if not self._go_on(self.epochs, self.figures):
            raise _HopelessError("the pruner ended this trial")


_PREFIX = "validation_"
