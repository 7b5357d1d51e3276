"""What training makes small: a loss a photo from logits and true classes."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

LossName = Literal["cross-entropy", "soft-ordinal", "emd", "cumulative"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits (n, K) float32, classes (n,) int64) → losses (n,). Weights and means are the loop's affair."""


def make_loss(name: LossName, *, label_smoothing: float = 0.0, width: float = 0.5, mix: float = 0.0) -> Loss:
    """The loss of that name. All but the first know that counts are ordered: 3 for 2 costs less than 5 for 2.

    Args:
        name: "cross-entropy": the negative log-likelihood of the true class.
            "soft-ordinal": cross-entropy against targets that spread over the neighbouring counts, as a normal
            curve of that width does (after Díaz & Marathe 2019, "Soft Labels for Ordinal Regression").
            "emd": the squared distances of the cumulative probabilities from those of the truth, summed: the squared
            earth mover's distance (Hou et al. 2016, https://arxiv.org/abs/1611.05916), which is also the ranked
            probability score of forecasts.
            "cumulative": the mean cross-entropy of the K - 1 questions "more than k?", as answered by the
            probabilities above k. With `model.head = "coral"` it is the loss of CORAL (Cao et al. 2020,
            https://arxiv.org/abs/1901.07884); cross-entropy with `model.head = "corn"` is that of CORN.
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016,
            https://arxiv.org/abs/1512.00567), where there is a target: in cross-entropy, plain, soft or mixed in.
        width: standard deviation of the soft targets, in counts; 0.5 leaves the truth 79 % between two neighbours.
        mix: share of plain cross-entropy that is mixed into the other losses.
    """

    def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, classes, reduction="none", label_smoothing=label_smoothing)

    def soft_ordinal(logits: Tensor, classes: Tensor) -> Tensor:
        places = torch.arange(logits.shape[1], device=logits.device)
        away = (places[None] - classes[:, None]).float() / width
        target = torch.softmax(-away.square() / 2, dim=1)
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[1]
        return -(target * logits.log_softmax(dim=1)).sum(dim=1)

    def emd(logits: Tensor, classes: Tensor) -> Tensor:
        # P(count ≤ k) should be 0 below the truth and 1 from there on; the last one is 1 whatever is said.
        up_to = logits.softmax(dim=1).cumsum(dim=1)[:, :-1]
        return (up_to - _reached(logits, classes)).square().sum(dim=1)

    def cumulative(logits: Tensor, classes: Tensor) -> Tensor:
        logs = logits.log_softmax(dim=1)
        up_to = logs.logcumsumexp(dim=1)[:, :-1]
        above = logs.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:]
        reached = _reached(logits, classes)
        return -(reached * up_to + (1 - reached) * above).mean(dim=1)

    losses: dict[LossName, Loss] = {
        "cross-entropy": cross_entropy,
        "soft-ordinal": soft_ordinal,
        "emd": emd,
        "cumulative": cumulative,
    }
    one = losses[name]
    if not mix or name == "cross-entropy":
        return one
    return lambda logits, classes: mix * cross_entropy(logits, classes) + (1 - mix) * one(logits, classes)


def _reached(logits: Tensor, classes: Tensor) -> Tensor:
    """(n, K - 1): 1 where the true class is k or less."""
    places = torch.arange(logits.shape[1] - 1, device=logits.device)
    return (classes[:, None] <= places[None]).float()
