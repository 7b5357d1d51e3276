"""The ranges that a tuning job searches: each a way from the unit interval to values as strings, and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bintally.cloud.local.wire import validation

Scaling = Literal["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"]

_MANY = 100.0
"""From this ratio of a range's ends on, the scale that is chosen by itself is logarithmic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One hyperparameter that varies.

    Attributes:
        name: of the hyperparameter.
        values: of a categorical one; empty otherwise.
        low: the least value.
        high: the largest value.
        whole: whether values are whole numbers.
        scaling: where in the range values are dense.
    """

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    scaling: Scaling = "Auto"

    def value(self, unit: float) -> str:
        """The value at a place in [0, 1], as the hyperparameter's string."""
        if self.values:
            return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]
        low, high = self._ends()
        found = self._back(self._forth(low) + unit * (self._forth(high) - self._forth(low)))
        if self.whole:
            return str(min(max(round(found), int(self.low)), int(self.high)))
        return repr(min(max(found, self.low), self.high))

    def unit(self, value: str) -> float:
        """The place in [0, 1] of a value. Raises ValueError when it is none of the range."""
        if self.values:
            return (self.values.index(value) + 0.5) / len(self.values)
        low, high = self._ends()
        if not self.low <= float(value) <= self.high:
            raise ValueError(f"{self.name} = {value} lies outside of {self.low}-{self.high}")
        span = self._forth(high) - self._forth(low)
        return (self._forth(float(value)) - self._forth(low)) / span if span else 0.0

    def _ends(self) -> tuple[float, float]:
        # Whole numbers each own the half below and above them, so that the ends are as likely as the others.
        if not self.whole:
            return self.low, self.high
        below = 0.5 if self.low > 0 or self._scale() == "Linear" else 0.0
        return self.low - below, self.high + 0.5

    def _scale(self) -> str:
        if self.scaling != "Auto":
            return self.scaling
        return "Logarithmic" if self.low > 0 and self.high / self.low >= _MANY else "Linear"

    def _forth(self, value: float) -> float:
        scale = self._scale()
        if scale == "Logarithmic":
            return math.log(value)
        return -math.log1p(-value) if scale == "ReverseLogarithmic" else value

    def _back(self, place: float) -> float:
        scale = self._scale()
        if scale == "Logarithmic":
            return math.exp(place)
        return -math.expm1(-place) if scale == "ReverseLogarithmic" else place


def read_ranges(parameters: Mapping[str, Any]) -> tuple[Range, ...]:
    """The ranges of a tuning job's ParameterRanges.

    Raises:
        ServiceError: one makes no sense, or a name stands there twice.
    """
    found = [
        Range(name=one["Name"], values=tuple(one["Values"]))
        for one in parameters.get("CategoricalParameterRanges", [])
    ]
    for member, whole in (("IntegerParameterRanges", True), ("ContinuousParameterRanges", False)):
        found += [_numbers(one, whole) for one in parameters.get(member, [])]
    if parameters.get("AutoParameters"):
        raise validation("The service on this machine does not choose ranges by itself: no AutoParameters.")
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise validation(f"Hyperparameter {name} has more than one range.")
    if not found:
        raise validation("ParameterRanges names nothing that varies.")
    return tuple(found)


def _numbers(one: Mapping[str, Any], whole: bool) -> Range:
    name, scaling = one["Name"], one.get("ScalingType", "Auto")
    try:
        low, high = (int(one[key]) if whole else float(one[key]) for key in ("MinValue", "MaxValue"))
    except ValueError as error:
        kind = "whole number" if whole else "number"
        raise validation(f"Hyperparameter {name}: MinValue and MaxValue must each be a {kind}.") from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise validation(f"Hyperparameter {name}: MinValue {low} must not exceed MaxValue {high}.")
    if scaling == "Logarithmic" and low <= 0:
        raise validation(f"Hyperparameter {name}: logarithmic scaling needs a range above 0.")
    if scaling == "ReverseLogarithmic" and (whole or low < 0 or high >= 1):
        raise validation(
            f"Hyperparameter {name}: reverse logarithmic scaling needs a continuous range in 0 <= x < 1."
        )
    return Range(name=name, low=low, high=high, whole=whole, scaling=scaling)
