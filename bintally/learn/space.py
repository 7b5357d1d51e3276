"""The search space of a tuning: which settings vary, and between what, read from the TOML beside the recipe."""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from bintally import settings
from bintally.errors import SettingsError

Value = float | int | str | bool
Assignment = Mapping[str, Value]
"""Setting ("train.batch_size") to value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One setting that varies.

    Attributes:
        name: "section.key", as `--set` takes it.
        choices: the values, when it is one of several.
        low: smallest value, when it is a number between two; a whole number when both ends are.
        high: largest value.
        log: whether orders of magnitude are equally likely, rather than values.
        step: distance between the values that are tried, when not all are.
        grid: the values that a grid search tries; by default five over a range.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float | int = 0
    high: float | int = 0
    log: bool = False
    step: float | int | None = None
    grid: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if len(set(self.choices)) != len(self.choices):
                raise ValueError("a choice stands there twice")
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low = {self.low} and high = {self.high} span no range")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low}: a logarithmic range starts above 0")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(f"step = {self.step}: a step is above 0, and not in a logarithmic range")
        if self.step is not None and not self.holds(self.high):
            raise ValueError(f"high = {self.high} is not reached from low = {self.low} in steps of {self.step}")

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def suggest(self, trial: optuna.Trial) -> Value:
        """The value that the study's sampler gives this trial."""
        if self.choices:
            chosen: Value = trial.suggest_categorical(self.name, self.choices)  # type: ignore[assignment] # None is none
            return chosen
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if self.choices:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return self.step is None or math.isclose(math.remainder(value - self.low, self.step), 0.0, abs_tol=1e-9)

    def points(self, num: int = 5) -> list[Value]:
        """The values of a grid search."""
        if self.grid or self.choices:
            return list(self.grid or self.choices)
        if self.step is not None:
            size = int((self.high - self.low) / self.step + 1e-9)
            points = [self.low + self.step * k for k in range(size + 1)]
        elif self.log:
            ratio = math.log(self.high / self.low)
            points = [self.low * math.exp(ratio * k / (num - 1)) for k in range(num)]
        else:
            points = [self.low + (self.high - self.low) * k / (num - 1) for k in range(num)]
        if self.whole:
            return list(dict.fromkeys(round(point) for point in points))
        # Six digits are enough to read, and to write down again; the ends stay what they are.
        return [min(max(float(f"{point:.6g}"), self.low), self.high) for point in points]

    def check_values(self) -> list[Value]:
        """Values that must all fit the setting for the space to fit the recipe."""
        return list(self.choices or (self.low, self.high, *self.grid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All settings that vary, in the order of the file."""

    dimensions: tuple[Dimension, ...]

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """A value for each setting."""
        return {one.name: one.suggest(trial) for one in self.dimensions}

    def grid(self) -> dict[str, list[Value]]:
        """Every setting's values for a grid search."""
        return {one.name: one.points() for one in self.dimensions}

    def holds(self, values: Assignment) -> bool:
        """Whether the values, one for each setting, lie in the space."""
        return all(one.name in values and one.holds(values[one.name]) for one in self.dimensions)


def read_space(path: Path) -> Space:
    """Reads a search space: tables as in a recipe, each key a range or choices.

    `learning_rate = { low = 1e-4, high = 1e-1, log = true }`, `batch_size = { choices = [32, 64] }`.

    Raises:
        SettingsError: the file is missing or is no TOML, or a key says nothing that can be searched.
    """
    tables = settings.read_toml(path)
    dimensions = [
        _dimension(f"{section}.{key}", entry, f"{path}: {section}.{key}")
        for section, table in tables.items()
        for key, entry in table.items()
    ]
    if not dimensions:
        raise SettingsError(f"{path} names nothing to search: write [train] learning_rate = {{ low = …, high = … }}")
    return Space(dimensions=tuple(dimensions))


def nest(values: Assignment) -> dict[str, dict[str, Value]]:
    """Values by section and key, as a settings file has them."""
    tables: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        tables.setdefault(section, {})[key] = value
    return tables


def write_toml(tables: Mapping[str, Mapping[str, Any]], *, head: str = "") -> str:
    """Tables of plain settings as TOML text, which reads back to equal tables. None values are left out."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    for section, table in tables.items():
        lines += ["", f"[{section}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]
    text = "\n".join(lines).lstrip("\n") + "\n"
    tomllib.loads(text)
    return text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return text if any(mark in text for mark in ".en") else f"{text}.0"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for the surrogates that ensure_ascii would write.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return str(value)


_KEYS = {"choices", "low", "high", "log", "step", "grid"}


def _dimension(name: str, entry: Any, where: str) -> Dimension:
    if isinstance(entry, list):
        entry = {"choices": entry}
    if not isinstance(entry, dict):
        raise SettingsError(f"{where} = {entry!r} is one value: write {{ low = …, high = … }} or {{ choices = […] }}")
    unknown = sorted(entry.keys() - _KEYS)
    if unknown:
        raise SettingsError(f"{where}: unknown {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    if ("choices" in entry) == ("low" in entry or "high" in entry):
        raise SettingsError(f"{where}: write either low and high, or choices")
    for key in ("choices", "grid"):
        if key in entry and not (isinstance(entry[key], list) and entry[key]):
            raise SettingsError(f"{where}: {key} is a list of values")
        entry = {**entry, key: tuple(entry.get(key, ()))}
    for key in ("low", "high", "step"):
        if entry.get(key) is not None and (isinstance(entry[key], bool) or not isinstance(entry[key], int | float)):
            raise SettingsError(f"{where}: {key} = {entry[key]!r} is no number")
    if not entry["choices"] and not {"low", "high"} <= entry.keys():
        raise SettingsError(f"{where}: a range has low and high")
    if not isinstance(entry.get("log", False), bool):
        raise SettingsError(f"{where}: log is true or false")
    try:
        return Dimension(name=name, **entry)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{where}: {error}") from error
