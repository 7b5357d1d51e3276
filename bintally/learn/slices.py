"""Where a counter fails: its figures slice by slice, with intervals, and what of it the counts alone do not explain. Pure."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bintally.resampling import Interval, bootstrap_means
from bintally.scores import Floats, Predictions, per_photo

FIGURES = ("accuracy", "within_one", "nll", "bias_expected")
BEYOND = ("accuracy_beyond", "nll_beyond")


class Cut(Protocol):
    """A way to cut the examined photos into slices: see `bintally.data.traits.Trait`."""

    @property
    def name(self) -> str:
        """Of the trait."""

    @property
    def about(self) -> str:
        """What is measured, in a sentence."""

    @property
    def order(self) -> Sequence[str]:
        """The slices."""

    @property
    def of(self) -> Sequence[str]:
        """Each photo's slice."""


def beyond_count(values: Floats, classes: Sequence[int] | np.ndarray[Any, Any]) -> Floats:
    """(n,) What a photo's figure is above the mean of all photos of its true count.

    Slices differ in their counts, and counts differ in how hard they are. The mean of this over a slice is what the
    slice itself adds (direct standardisation, with the scored photos as the standard).
    """
    places = np.asarray(classes, dtype=np.int64)
    sums, sizes = np.bincount(places, weights=values), np.bincount(places)
    means: Floats = sums / np.maximum(sizes, 1)
    return values - means[places]


def by_slice(
    said: Predictions, groups: Sequence[str], of: Sequence[str], order: Sequence[str], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """One row a slice.

    Args:
        said: of n photos.
        groups: n group names; whole groups are drawn.
        of: each photo's slice.
        order: the slices, in the order of the rows.
        resamples: draws for the intervals.
        seed: of the draws.

    Returns:
        JSON-ready rows: `name`, `photos`, `groups`, `mean_count`, and for each of `FIGURES` and `BEYOND` its `value`,
        `low` and `high`. With fewer than two groups there are no intervals: the ends are None.
    """
    figures = per_photo(said)
    values = {name: figures[name] for name in FIGURES}
    values |= {f"{name}_beyond": beyond_count(figures[name], said.classes) for name in ("accuracy", "nll")}
    slices, names = np.asarray(of, dtype=np.str_), np.asarray(groups, dtype=np.str_)
    rows = []
    for name in order:
        mask = slices == name
        if not mask.any():
            continue
        inside = names[mask]
        num_groups = len(set(inside.tolist()))
        found = bootstrap_means(
            {key: one[mask] for key, one in values.items()}, inside.tolist(), resamples=resamples, seed=seed
        )
        rows.append(
            {
                "name": name,
                "photos": int(mask.sum()),
                "groups": num_groups,
                "mean_count": float(said.true_counts[mask].mean()),
                **{key: ends(one, known=num_groups > 1) for key, one in found.items()},
            }
        )
    return rows


def ends(one: Interval, *, known: bool = True) -> dict[str, float | None]:
    """A figure and the ends of its interval, JSON-ready."""
    return {"value": one.value, "low": one.low if known else None, "high": one.high if known else None}
