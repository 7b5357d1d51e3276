"""Who may follow a training as it runs: logs, the debug rules, the profiler, a tuner that prunes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bintally.learn.model import CountModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a listener is told when training starts or goes on.

    Attributes:
        model: the network that is trained, unwrapped.
        run: the run folder.
        done: how many steps were done before, by an earlier process.
        steps_per_epoch: how many steps an epoch has.
        settings: table → key → value.
        kept_inputs: when training takes kept activations: the mean of the normalised training photos that these were
            made of, and how many photos that is over. None when the photos themselves come with each batch.
    """

    model: CountModel
    run: Path
    done: int
    steps_per_epoch: int
    settings: Mapping[str, Mapping[str, Any]]
    kept_inputs: tuple[float, int] | None = None


class Listener:
    """Hears of every step and epoch, in the first process only. Each method does nothing unless overridden.

    Steps count from 1 over the whole training, epochs from 1. A `BintallyError` that a method raises ends the run.
    """

    def on_start(self, start: Start) -> None:
        """Before the first step of this process."""

    def on_loaded(self, step: int) -> None:
        """The loader has given the step's batch; nothing of it is on the device yet."""

    def on_batch(self, step: int, photos: Tensor, classes: Tensor) -> None:
        """The batch is there, (N, 3, size, size) and (N,), and the forward pass begins."""

    def on_forward(self, step: int) -> None:
        """Logits and loss are there, the loss is a finite number, and the backward pass begins."""

    def on_backward(self, step: int) -> None:
        """Gradients are there; the weights are as they were."""

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """The optimizer has changed the weights; `loss` is what the step made smaller.

        A loss that is no finite number is told, too, before it ends the run; there was no backward pass then.
        """

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """Validation is done: the epoch's line of history.csv, and counts by true and predicted class (K, K)."""

    def on_end(self) -> None:
        """The training is over, well or not."""
