"""A search space in the service's words, and what it has no words for.

The service knows whole and real ranges (linear or logarithmic) and lists of texts. It knows no steps, and its grid
search takes lists alone; both are written down as lists here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bintally.errors import SettingsError

Value = float | int | str | bool
MOST_VALUES = 30
"""The most values that a list may have; and the most settings that a tuning may vary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Varied:
    """One setting that varies, in plain values.

    Attributes:
        name: "section.key", which is the hyperparameter's name too.
        choices: the values, when it is one of several.
        low: smallest value, when it is a number between two; a whole number when both ends are.
        high: largest value.
        log: whether orders of magnitude are equally likely.
        stepped: whether only some values between the ends are allowed; they are then `points`.
        points: the values of a grid search.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    stepped: bool = False
    points: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The service's `ParameterRanges`.

    Attributes:
        ranges: the request's field.
        names: of the settings that vary.
        size: how many combinations a grid search tries; 0 for the other strategies.
        notes: what is lost, in a sentence each.
    """

    ranges: dict[str, Any]
    names: tuple[str, ...]
    size: int = 0
    notes: tuple[str, ...] = field(default=())


def parameter_ranges(space: Sequence[Varied], strategy: str) -> Ranges:
    """A search space as the service takes it.

    Raises:
        SettingsError: it cannot be expressed, and no near thing can.
    """
    if len(space) > MOST_VALUES:
        raise SettingsError(f"{len(space)} settings vary; the service takes {MOST_VALUES} at most")
    whole: list[dict[str, str]] = []
    real: list[dict[str, str]] = []
    lists: list[dict[str, Any]] = []
    notes: list[str] = []
    size = 1 if strategy == "Grid" else 0
    for one in space:
        if strategy == "Grid" or one.choices or one.stepped:
            values = [as_text(value) for value in (one.choices if one.choices and strategy != "Grid" else one.points)]
            if len(values) > MOST_VALUES:
                raise SettingsError(
                    f"{one.name}: {len(values)} values; the service takes {MOST_VALUES} at most in a list"
                    + ("" if one.choices else ", and knows no steps: give a range without a step, or fewer of them")
                )
            lists.append({"Name": one.name, "Values": values})
            size *= len(values)
            if not one.choices and strategy != "Grid":
                notes.append(
                    f"{one.name}: the service knows no steps; its {len(values)} values are searched as a list, "
                    "without their order"
                )
            elif not one.choices:
                notes.append(f"{one.name}: a grid takes lists alone; the values are {', '.join(values)}")
        else:
            both = {"MinValue": as_text(one.low), "MaxValue": as_text(one.high)}
            scaling = {"ScalingType": "Logarithmic" if one.log else "Linear"}
            is_whole = isinstance(one.low, int) and isinstance(one.high, int)
            (whole if is_whole else real).append({"Name": one.name, **both, **scaling})
    named = {"IntegerParameterRanges": whole, "ContinuousParameterRanges": real, "CategoricalParameterRanges": lists}
    return Ranges(
        ranges={key: value for key, value in named.items() if value},
        names=tuple(one.name for one in space),
        size=size,
        notes=tuple(notes),
    )


def as_text(value: Value | Sequence[Value]) -> str:
    """A value as a hyperparameter, all of which are text; a recipe reads it back to an equal value."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(list(value)) if isinstance(value, list | tuple) else str(value)
