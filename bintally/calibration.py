"""How honest probabilities are, and how a temperature makes them so. Pure, numpy only.

The method and its measure are those of Guo et al. 2017, "On calibration of modern neural networks".
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bintally.scores import Floats, Ints, Predictions, softmax

NUM_BINS = 15
"""As in Guo et al."""

TEMPERATURES = (0.05, 20.0)
"""Between these a temperature is looked for. A handful of photos, all of them right, would ask for 0."""

Bins = Literal["width", "mass"]


def fit_temperature(logits: ArrayLike, classes: ArrayLike) -> float:
    """The temperature that makes the true classes likeliest: the least negative log-likelihood.

    The likelihood is concave in 1 / temperature, so its slope crosses zero once: bisection, to full precision.

    Args:
        logits: (n, K), of photos that the counter neither trained on nor is scored on.
        classes: (n,), the true class indices, 0..K-1.

    Returns:
        The temperature, within `TEMPERATURES`. Above 1 the counter was too sure of itself.

    Raises:
        ValueError: there are no photos, or the shapes differ.
    """
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(classes, dtype=np.int64)
    if z.ndim != 2 or not z.size or y.shape != z.shape[:1]:
        raise ValueError(f"a temperature is fitted on logits (n, K) and n classes, not on {z.shape} and {y.shape}")
    right = z[np.arange(len(z)), y]

    def slope(log_temperature: float) -> float:
        # Derivative of the mean negative log-likelihood by 1 / temperature.
        shares = softmax(z, float(np.exp(log_temperature)))
        return float(((shares * z).sum(axis=1) - right).mean())

    low, high = (float(np.log(end)) for end in TEMPERATURES)
    # The slope falls as the temperature rises. Flat from end to end (all logits equal): leave them as they are.
    if abs(slope(low)) < 1e-12 and abs(slope(high)) < 1e-12:
        return 1.0
    if slope(low) <= 0:
        return TEMPERATURES[0]
    if slope(high) >= 0:
        return TEMPERATURES[1]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """The photos whose likeliest count has a probability in one span.

    Attributes:
        low: where the span starts; it does not belong to it.
        high: where it ends.
        num_photos: how many photos lie in it, at least one.
        confidence: mean probability of their likeliest counts.
        accuracy: share of them that are right. An honest counter has both equal, but for chance.
    """

    low: float
    high: float
    num_photos: int
    confidence: float
    accuracy: float


def reliability(predictions: Predictions, *, num_bins: int = NUM_BINS, bins: Bins = "width") -> list[ReliabilityBin]:
    """The reliability curve of the likeliest count: one entry a span that holds photos, in order.

    Args:
        predictions: of at least one photo.
        num_bins: how many spans.
        bins: spans of equal "width" over 0..1, or with about equally many photos ("mass").
    """
    place, edges = _places(predictions.confidence, num_bins, bins)
    sizes = np.bincount(place, minlength=len(edges) - 1)
    said = np.bincount(place, weights=predictions.confidence, minlength=len(sizes))
    hits = np.bincount(place, weights=predictions.correct, minlength=len(sizes))
    return [
        ReliabilityBin(
            low=float(edges[k]),
            high=float(edges[k + 1]),
            num_photos=int(sizes[k]),
            confidence=float(said[k] / sizes[k]),
            accuracy=float(hits[k] / sizes[k]),
        )
        for k in np.flatnonzero(sizes)
    ]


def calibration_error(predictions: Predictions, *, num_bins: int = NUM_BINS, bins: Bins = "width") -> float:
    """Expected calibration error of the likeliest count: mean |accuracy - confidence| over spans, by their photos.

    It is above 0 by chance alone: hold it against `calibration_error_by_chance`.
    """
    curve = reliability(predictions, num_bins=num_bins, bins=bins)
    return sum(part.num_photos * abs(part.accuracy - part.confidence) for part in curve) / len(predictions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChanceError:
    """The calibration error that a perfectly calibrated counter of the same probabilities would show.

    Attributes:
        mean: over the simulations.
        high: 95 % of the simulations stay at or below it. An error above says that the counter is off.
    """

    mean: float
    high: float


def calibration_error_by_chance(
    predictions: Predictions,
    *,
    num_bins: int = NUM_BINS,
    bins: Bins = "width",
    simulations: int = 1000,
    seed: int = 0,
) -> ChanceError:
    """Simulates true counts from the predicted probabilities and takes the calibration error of each.

    "Consistency resampling" of Bröcker & Smith 2007, "Increasing the reliability of reliability diagrams". Photos
    are drawn independently; where those of one group err together, chance is a little larger than this says.
    """
    said = predictions.confidence
    place, _ = _places(said, num_bins, bins)
    order = np.argsort(place, kind="stable")
    said, place = said[order], place[order]
    starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
    random = np.random.default_rng(seed)
    errors: list[Floats] = []
    for chunk in _chunks(simulations, max(1, 4_000_000 // len(said))):
        # Only whether the likeliest count is the simulated one matters: right with just its probability.
        right = random.random((chunk, len(said))) < said
        off = np.add.reduceat(right - said, starts, axis=1)
        errors.append(np.abs(off).sum(axis=1) / len(said))
    every = np.concatenate(errors)
    return ChanceError(mean=float(every.mean()), high=float(np.quantile(every, 0.95)))


def _places(said: Floats, num_bins: int, bins: Bins) -> tuple[Ints, Floats]:
    """The span (low, high] of each probability, and the spans' edges."""
    if num_bins < 1:
        raise ValueError(f"{num_bins} bins are none")
    edges: NDArray[np.float64] = np.linspace(0.0, 1.0, num_bins + 1)
    if bins == "mass":
        # Equal probabilities stay in one span, so there may be fewer spans than asked for.
        edges = np.unique(np.r_[0.0, np.quantile(said, edges[1:-1]), 1.0])
    return np.clip(np.searchsorted(edges, said, side="left") - 1, 0, len(edges) - 2).astype(np.int64), edges


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]
