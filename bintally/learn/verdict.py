"""Whether a tuned recipe is better than the recipe as it was, or better by luck: of photos, and of seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bintally import resampling
from bintally.learn.study import HIGHER_IS_BETTER

_T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond, 2.2 is on the safe side."""


def judge(repeats: Sequence[Mapping[str, Any]], groups: Sequence[str], objective: str) -> dict[str, Any]:
    """Compares candidates that were trained with several seeds, and the best one with the recipe as it was.

    Args:
        repeats: trainings, each with "trial" (None: the recipe as it was), "seed", "figures" and "per_photo", the
            negative log-likelihoods of the validation photos. Those that failed have no figures.
        groups: group of each validation photo.
        objective: the figure to choose by.

    Returns:
        "candidates" (mean, spread over seeds), the "winner" (a trial's number, or None for the recipe as it was), the
        paired "difference" of the negative log-likelihood with an interval by photos and one by seeds, whether that
        is "within_noise", and a sentence that says so. The photos are those the winner was chosen by, so that the
        difference flatters it a little: the test part has the last word.
    """
    candidates = []
    per_photo: dict[int | None, dict[int, NDArray[np.float64]]] = {}
    for trial in dict.fromkeys(one["trial"] for one in repeats):
        mine = [one for one in repeats if one["trial"] == trial and one["figures"]]
        values = [float(one["figures"][objective]) for one in mine]
        per_photo[trial] = {one["seed"]: np.array(one["per_photo"], dtype=np.float64) for one in mine}
        candidates.append(
            {
                "trial": trial,
                "seeds": [one["seed"] for one in mine],
                "values": values,
                "failed": sum(one["trial"] == trial for one in repeats) - len(mine),
                "mean": float(np.mean(values)) if values else None,
                "spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            }
        )
    # One that failed with any seed is not to be relied on.
    able = [one for one in candidates if one["mean"] is not None and not one["failed"]]
    if not able:
        return {
            "candidates": candidates,
            "winner": None,
            "difference": None,
            "within_noise": True,
            "said": "every candidate failed with some seed: the recipe stays as it was",
        }
    sign = -1 if objective in HIGHER_IS_BETTER else 1
    winner: int | None = min(able, key=lambda one: sign * float(one["mean"] or 0.0))["trial"]
    if winner is None:
        said = "no trial did better than the recipe as it was, over all seeds: it stays as it was"
        return {"candidates": candidates, "winner": None, "difference": None, "within_noise": True, "said": said}
    difference = _difference(per_photo[winner], per_photo.get(None, {}), groups)
    if difference is None:
        said = f"trial {winner} is best; the recipe as it was failed, so that there is nothing to compare it with"
        return {"candidates": candidates, "winner": winner, "difference": None, "within_noise": False, "said": said}
    by_photos = difference["low"] <= 0 <= difference["high"]
    by_seeds = abs(difference["value"]) <= difference["seeds_margin"] if difference["seeds_margin"] else False
    within = by_photos or by_seeds
    margin = f", ± {difference['seeds_margin']:.4f} by seeds" if difference["seeds_margin"] is not None else ""
    said = (
        f"trial {winner} less the recipe as it was, negative log-likelihood on the validation part: "
        f"{difference['value']:+.4f} (95 %: {difference['low']:+.4f} to {difference['high']:+.4f} by photos{margin}): "
    )
    said += (
        "within noise" if within else "better than by chance" if difference["value"] < 0 else "worse in that figure"
    )
    return {
        "candidates": candidates,
        "winner": winner,
        "difference": difference,
        "within_noise": within,
        "said": said,
    }


def _difference(
    one: Mapping[int, NDArray[np.float64]], two: Mapping[int, NDArray[np.float64]], groups: Sequence[str]
) -> dict[str, Any] | None:
    """Mean of `one` less `two` over photos and shared seeds, with both intervals."""
    seeds = sorted(one.keys() & two.keys())
    if not seeds:
        return None
    apart = np.stack([one[seed] - two[seed] for seed in seeds])  # (seeds, photos)
    found = resampling.bootstrap_means({"nll": apart.mean(axis=0)}, groups)["nll"]
    by_seed = apart.mean(axis=1)
    margin = None
    if len(seeds) > 1:
        margin = _T_95.get(len(seeds) - 1, 2.2) * float(by_seed.std(ddof=1)) / math.sqrt(len(seeds))
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "seeds_margin": margin,
        "by_seed": {str(seed): float(value) for seed, value in zip(seeds, by_seed, strict=True)},
    }
