"""The figures that a training tells in its log, one line an epoch, and the regular expressions that read them back."""

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

_FIGURES = (
    "accuracy",
    "within_one",
    "rmse",
    "mae",
    "rmse_expected",
    "mae_expected",
    "bias_expected",
    "nll",
    "brier",
)
_TRAIN = ("epoch", "step", "step_loss", "loss", "nll", "accuracy", "seconds")
_NAMES = (
    *(f"train:{name}" for name in _TRAIN),
    *(f"{part}:{name}" for part in ("validation", "test") for name in _FIGURES),
)

METRICS: Mapping[str, str] = MappingProxyType({name: f"{name}=([-+0-9.eE]+);" for name in _NAMES})
"""Metric name → the regular expression whose first group is its value, as a job's metric definitions have them.

"validation:…" are figures of an epoch on the validation part ("validation:nll" chooses the best epoch; what a tuner
should minimise), "test:…" those of the test part after the training; see `scores.figures` for what each means. The
service takes at most 40 such definitions.
"""

LARGER_IS_BETTER = frozenset(name for name in _NAMES if name.endswith((":accuracy", ":within_one")))
"""The metrics that a tuner should maximise; it should minimise all others."""


def metric_line(values: Mapping[str, float]) -> str:
    """One line of the log with figures that `METRICS` reads.

    Args:
        values: metric name → value. Values that are no finite number are left out: no expression would read them.

    Returns:
        Such as "metrics: train:epoch=3; validation:accuracy=0.385;".

    Raises:
        ValueError: a name is none of `METRICS`.
    """
    unknown = [name for name in values if name not in METRICS]
    if unknown:
        raise ValueError(f"no such metric: {', '.join(unknown)}")
    told = [f"{name}={float(value)!r};" for name, value in values.items() if math.isfinite(value)]
    return " ".join(["metrics:", *told])


def read_metrics(line: str, definitions: Mapping[str, str] = METRICS) -> dict[str, float]:
    """The figures in a line of a log, as the service reads them off it.

    Args:
        line: any line.
        definitions: metric name → regular expression; its first group is the value.

    Returns:
        Metric name → value, of those that match and whose group is a number.
    """
    found: dict[str, float] = {}
    for name, pattern in definitions.items():
        match = re.search(pattern, line)
        if match and match.groups():
            try:
                found[name] = float(match.group(1))
            except ValueError:
                continue
    return found
