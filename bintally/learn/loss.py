"""What training makes small: a loss a photo from logits and true classes."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

LossName = Literal["cross-entropy"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, K) float32, classes (n,) int64) → losses (n,). Weights and means are the loop's affair."""


def make_loss(name: LossName, *, label_smoothing: float = 0.0) -> Loss:
    """The loss of that name.

    Args:
        name: "cross-entropy": the negative log-likelihood of the true class.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016,
            https://arxiv.org/abs/1512.00567).
    """

    def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, classes, reduction="none", label_smoothing=label_smoothing)

    losses: dict[LossName, Loss] = {"cross-entropy": cross_entropy}
    return losses[name]
