"""Whether an exported model answers as the trained one: paired on the same photos, pure, numpy only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bintally.scores import softmax

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far an exported model may differ from the trained one; None asks nothing.

    Attributes:
        difference: largest difference of any probability.
        changed: largest share of photos whose likeliest count changes.
        loss: largest mean log-likelihood of the true counts that is lost, in nats a photo.
    """

    difference: Annotated[float, Field(ge=0)] | None = None
    changed: Annotated[float, Field(ge=0, le=1)] | None = None
    loss: Annotated[float, Field(ge=0)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What differs between the trained and an exported model, on the same photos.

    Attributes:
        num_photos: how many were asked.
        difference: largest difference of any probability.
        changed: share of photos whose likeliest count changed.
        loss: mean log-likelihood of the true counts that was lost (below 0: gained), in nats a photo.
        loss_error: standard error of `loss` over photos: how far chance moves it.
        accuracy_change: share of right answers, exported less trained.
    """

    num_photos: int
    difference: float
    changed: float
    loss: float
    loss_error: float
    accuracy_change: float

    def as_metrics(self) -> dict[str, Any]:
        """For the card: rounded to what means something."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()} | {"num_photos": self.num_photos}


def compare(
    trained: Logits,
    exported: Logits,
    classes: Sequence[int] | NDArray[np.int64],
    *,
    temperature: float = 1.0,
    exported_temperature: float | None = None,
) -> Agreement:
    """Holds an exported model's logits (n, K) against the trained one's.

    Args:
        trained: logits of the trained model, n at least 1.
        exported: logits of the exported one for the same photos.
        classes: the n true class indices.
        temperature: divides the trained logits.
        exported_temperature: divides the exported ones; the same by default.

    Raises:
        ValueError: the shapes differ, or there are no photos.
    """
    right = np.asarray(classes, dtype=np.int64)
    if trained.shape != exported.shape or trained.shape[:1] != right.shape or not len(right):
        raise ValueError(f"no comparison of logits {trained.shape} with {exported.shape} and {right.shape} labels")
    one = softmax(trained.astype(np.float64), temperature)
    other = softmax(exported.astype(np.float64), exported_temperature or temperature)
    places = np.arange(len(right))
    tiny = np.finfo(np.float64).tiny
    lost = np.log(np.maximum(one[places, right], tiny)) - np.log(np.maximum(other[places, right], tiny))
    before, after = trained.argmax(axis=1), exported.argmax(axis=1)
    return Agreement(
        num_photos=len(right),
        difference=float(np.abs(one - other).max()),
        changed=float((before != after).mean()),
        loss=float(lost.mean()),
        loss_error=float(lost.std() / np.sqrt(len(right))),
        accuracy_change=float((after == right).mean() - (before == right).mean()),
    )


def breaches(agreement: Agreement, limits: Limits, what: str) -> list[str]:
    """One line for each limit that is broken; NaN breaks every limit."""
    told = {
        "difference": f"probabilities differ by up to {agreement.difference:.2g}",
        "changed": f"{agreement.changed:.1%} of the likeliest counts change",
        "loss": f"{agreement.loss:.3g} nats of log-likelihood a photo are lost",
    }
    found = []
    for name, text in told.items():
        limit = getattr(limits, name)
        if limit is not None and not getattr(agreement, name) <= limit:
            allowed = f"{limit:.1%}" if name == "changed" else f"{limit:.2g}"
            found.append(f"{what}: {text} over {agreement.num_photos:,} photos; at most {allowed} may")
    return found
