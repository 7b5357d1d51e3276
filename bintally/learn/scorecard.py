"""One set of photos, all its figures: raw and calibrated, with intervals, beside a counter that never looks. Pure."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bintally import scores
from bintally.calibration import calibration_error, calibration_error_by_chance, reliability
from bintally.counts import CountRange
from bintally.resampling import Interval, bootstrap, bootstrap_difference
from bintally.scores import Floats, Ints, Predictions

_Said = tuple[Predictions, Predictions | None]

LITERATURE = 5
"""The published counters end here."""

COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)
_CURVE = 200
_PER_SPAN = 50
"""Points of the reliability plot rest on at least so many photos: below, chance draws the curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How thorough the resampling is.

    Attributes:
        resamples: draws of groups for intervals.
        simulations: simulated labels for the calibration error by chance.
        num_bins: spans of the reliability curve.
        seed: of both.
    """

    resamples: int
    simulations: int
    num_bins: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Photos with their logits, ready to be scored. At least one.

    Attributes:
        logits: (n, num_classes), before any temperature.
        labels: (n,) true counts, not clipped, all within `counts`.
        groups: n names.
        counts: the counter's range.
        open_mean: what an open last class stands for, in items.
        shares: (highest + 1,) class shares of the training labels, for the counter that never looks.
    """

    logits: Floats
    labels: Ints
    groups: tuple[str, ...]
    counts: CountRange
    open_mean: float | None
    shares: Floats

    def predictions(self, temperature: float = 1.0) -> Predictions:
        """What the counter said, its logits divided by `temperature`."""
        return scores.predictions_of(
            self.logits, self.labels, self.counts, temperature=temperature, open_mean=self.open_mean
        )

    def blind(self) -> Predictions:
        """What a counter says that knows the class shares and never looks."""
        shares = np.where(np.arange(len(self.shares)) < self.counts.lowest, 0.0, self.shares)
        return scores.blind(shares / shares.sum(), self.labels, self.predictions().open_mean)


def scopes(scored: Scored, temperature: float | None, effort: Effort) -> list[dict[str, Any]]:
    """The figures on the counter's own range and, for one that goes beyond five, on the literature's photos too.

    Those photos are scored twice: with the distribution as it is, where naming a larger count is a mistake that a
    counter of 0-5 cannot make; and renormalised to 0-5, which is what the literature's counters amount to.

    Args:
        scored: what to score.
        temperature: fitted on the calibration part; None leaves out the calibrated figures.
        effort: of the resampling.

    Returns:
        JSON-ready blocks. The first is the own range. Each has `name`, `counts` (as in `str(CountRange)`), `how`,
        `num_photos`, `num_groups`, `raw`, `calibrated` (None without a temperature), `blind` and `gain` (ours less
        blind's, paired).
    """
    counts = scored.counts
    said: _Said = (scored.predictions(), None if temperature is None else scored.predictions(temperature))
    blind, groups = scored.blind(), scored.groups
    blocks = [_block("own", str(counts), "all photos of the counter's range", said, blind, groups, effort)]
    few = scored.labels <= LITERATURE
    if counts.highest > LITERATURE and few.any():
        name = f"{counts.lowest}-{LITERATURE}"
        inside = tuple(group for group, kept in zip(groups, few, strict=True) if kept)
        as_is = _both(said, lambda one: one.where(few))
        blocks.append(_block("few", name, "distribution over all counts", as_is, blind.where(few), inside, effort))
        told = _both(said, lambda one: one.up_to(LITERATURE))
        blocks.append(
            _block("few_told", name, f"renormalised to {name}", told, blind.up_to(LITERATURE), inside, effort)
        )
    return blocks


def _both(said: _Said, change: Callable[[Predictions], Predictions]) -> _Said:
    raw, calibrated = said
    return change(raw), None if calibrated is None else change(calibrated)


def _block(
    name: str,
    counts: str,
    how: str,
    said: _Said,
    blind: Predictions,
    groups: tuple[str, ...],
    effort: Effort,
) -> dict[str, Any]:
    raw, calibrated = said
    best = raw if calibrated is None else calibrated
    gain = bootstrap_difference(best, blind, groups, resamples=effort.resamples, seed=effort.seed)
    return {
        "name": name,
        "counts": counts,
        "how": how,
        "num_photos": len(raw),
        "num_groups": len(set(groups)),
        "raw": _scores(raw, groups, effort),
        "calibrated": _scores(calibrated, groups, effort) if calibrated is not None else None,
        "blind": {"figures": scores.figures(blind), "majority": int(blind.likeliest[0])},
        "gain": {key: _ends(gain[key]) for key in gain},
    }


def _scores(said: Predictions, groups: tuple[str, ...], effort: Effort) -> dict[str, Any]:
    intervals = bootstrap(said, groups, resamples=effort.resamples, seed=effort.seed)
    errors: dict[str, Any] = {}
    for bins in ("width", "mass"):
        chance = calibration_error_by_chance(
            said, num_bins=effort.num_bins, bins=bins, simulations=effort.simulations, seed=effort.seed
        )
        error = calibration_error(said, num_bins=effort.num_bins, bins=bins)
        errors[bins] = {"error": error, "chance_mean": chance.mean, "chance_high": chance.high}
    kept = scores.coverage(said)
    spans = max(2, min(effort.num_bins, len(said) // _PER_SPAN))
    points = np.unique(np.linspace(0, len(said) - 1, min(_CURVE, len(said))).round().astype(int))
    return {
        "figures": {key: _ends(interval) for key, interval in intervals.items()},
        "mean_confidence": float(said.confidence.mean()),
        "calibration_error": errors,
        "reliability": [asdict(one) for one in reliability(said, num_bins=spans, bins="mass")],
        "coverage": {
            "risk_area": kept.risk_area,
            "accuracy_at": {f"{share:.0%}": kept.accuracy_at(share) for share in COVERAGES},
            "curve": [[float(kept.coverage[k]), float(kept.accuracy[k])] for k in points],
        },
        "per_count": [asdict(row) for row in scores.per_count(said)],
        "confusion": scores.confusion(said).tolist(),
    }


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
