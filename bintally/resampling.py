"""How sure a figure is: intervals by resampling groups of photos, for one counter and for two against each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bintally.scores import ROOT_OF_MEAN, Floats, Predictions, per_photo

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with the ends of its interval. With one group alone, nothing varies and the ends say nothing."""

    value: float
    low: float
    high: float


def bootstrap(
    predictions: Predictions,
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of all `scores.figures`, over groups drawn with replacement.

    Photos of one group are of one bin and err together, so whole groups are drawn (the cluster bootstrap; Efron &
    Tibshirani 1993, "An introduction to the bootstrap").

    Args:
        predictions: of n photos.
        groups: n group names.
        resamples: how many draws.
        level: share of the draws between the ends.
        seed: the same seed gives the same intervals.
    """
    return bootstrap_means(per_photo(predictions), groups, resamples=resamples, level=level, seed=seed)


def bootstrap_difference(
    first: Predictions,
    second: Predictions,
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of `first`'s figures less `second`'s, both over the same photos in the same order.

    Each draw takes the same groups for both, so what makes a photo hard for both cancels: where the interval leaves
    out 0, the counters differ.

    Raises:
        ValueError: the two were not asked about the same photos.
    """
    if not np.array_equal(first.true_counts, second.true_counts):
        raise ValueError("two counters are compared on the same photos in the same order")
    one, two = per_photo(first), per_photo(second)
    drawn_one, whole_one = _figures(one, groups, resamples, seed)
    drawn_two, whole_two = _figures(two, groups, resamples, seed)
    return {
        name: _interval(whole_one[name] - whole_two[name], drawn_one[name] - drawn_two[name], level) for name in one
    }


def bootstrap_means(
    values: Mapping[str, NDArray[np.float64]],
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of the means of any per-photo values (of the roots of the means in `ROOT_OF_MEAN`).

    Args:
        values: name → (n,).
        groups: n group names.
        resamples: how many draws.
        level: share of the draws between the ends.
        seed: the same seed gives the same intervals.
    """
    drawn, whole = _figures(values, groups, resamples, seed)
    return {name: _interval(whole[name], drawn[name], level) for name in values}


def _figures(
    values: Mapping[str, NDArray[np.float64]], groups: Sequence[str], resamples: int, seed: int
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Each figure over every draw, and over the photos as they are."""
    names = list(values)
    stacked = np.stack([np.asarray(values[name], dtype=np.float64) for name in names], axis=1)
    if len(groups) != len(stacked) or not len(stacked):
        raise ValueError(f"{len(groups)} groups for {len(stacked)} photos")
    _, place = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    sizes = np.bincount(place).astype(np.float64)
    # A figure depends on the groups' sums alone: each draw is a row of "how often each group", times the sums.
    sums = np.stack([np.bincount(place, weights=column) for column in stacked.T], axis=1)
    table = np.concatenate([sums, sizes[:, None]], axis=1)
    totals = np.concatenate([times @ table for times in _draws(len(sizes), resamples, seed)])
    means = totals[:, :-1] / totals[:, -1:]
    drawn = {name: _rooted(name, means[:, k]) for k, name in enumerate(names)}
    whole = {name: float(_rooted(name, stacked[:, k].mean(keepdims=True))[0]) for k, name in enumerate(names)}
    return drawn, whole


def _draws(num_groups: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Rows of how often each group is drawn, a few million numbers at a time."""
    random = np.random.default_rng(seed)
    step = max(1, 4_000_000 // num_groups)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = random.integers(num_groups, size=(rows, num_groups)) + np.arange(rows)[:, None] * num_groups
        yield np.bincount(drawn.ravel(), minlength=rows * num_groups).reshape(rows, num_groups).astype(np.float64)


def _rooted(name: str, means: Floats) -> Floats:
    return np.sqrt(np.maximum(means, 0.0)) if name in ROOT_OF_MEAN else means


def _interval(value: float, drawn: Floats, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))
