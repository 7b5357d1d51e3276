"""What no counter can pass: several estimates of it, none of them the truth, each with what it rests on. Pure."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bintally.scores import Floats

Z = 1.96
"""Standard deviations of a normal distribution to the ends of its middle 95 %."""


def of_look_alikes(sets: Sequence[Sequence[int]], num_photos: int) -> dict[str, Any]:
    """What nearly identical photos with different labels cost any counter that answers the same to the same picture.

    On a set of look-alikes such a counter is right at most as often as the set's commonest label.

    Args:
        sets: the labels of each set.
        num_photos: how many photos there are in all.

    Returns:
        `sets`, `photos` in them, `differing` (sets with more than one label), `accuracy_there`: the most that can be
        had on them, `accuracy`: the most on all photos if every other one could be counted.
    """
    photos = sum(map(len, sets))
    best = sum(max(labels.count(one) for one in labels) for labels in (list(one) for one in sets))
    return {
        "sets": len(sets),
        "photos": photos,
        "differing": sum(len(set(labels)) > 1 for labels in sets),
        "accuracy_there": best / photos if photos else None,
        "accuracy": 1 - (photos - best) / num_photos,
    }


def of_hidden(shares: Sequence[float] | Floats, hidden: float) -> float:
    """The best accuracy of a counter that sees each unit with probability 1 - `hidden`, one by one, and no more.

    The counter knows how often each count occurs and names the likeliest count for the number that it sees:
    the sum over v of the largest P(n) · C(n, v) (1 - h)^v h^(n - v).

    Args:
        shares: how often each count from 0 occurs.
        hidden: chance that a unit leaves no trace in the photo, 0..1.
    """
    shares = np.asarray(shares, dtype=np.float64)
    total = 0.0
    for seen in range(len(shares)):
        chances = [
            shares[count] * math.comb(count, seen) * (1 - hidden) ** seen * hidden ** (count - seen)
            for count in range(seen, len(shares))
        ]
        total += max(chances)
    return float(total / shares.sum())


def hidden_of(shares: Sequence[float] | Floats, accuracy: float) -> float:
    """How many units must leave no trace for `accuracy` to be the best there is: `of_hidden` backwards, 0..0.5.

    The accuracy falls as more is hidden, until the likeliest count alone is left; 0.5 stands for that and beyond.
    """
    low, high = 0.0, 0.5
    if of_hidden(shares, high) >= accuracy:
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if of_hidden(shares, middle) >= accuracy else (low, middle)
    return low


def share(hits: int, number: int) -> dict[str, float]:
    """A share with the 95 % interval of Wilson 1927, which also holds for few and for extreme shares."""
    if number < 1:
        raise ValueError("a share of nothing")
    found = hits / number
    middle = found + Z**2 / (2 * number)
    spread = Z * math.sqrt(found * (1 - found) / number + Z**2 / (4 * number**2))
    scale = 1 + Z**2 / number
    return {"value": found, "low": max(0.0, (middle - spread) / scale), "high": min(1.0, (middle + spread) / scale)}
