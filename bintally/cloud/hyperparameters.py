"""The hyperparameters of a training job: flat strings, read into what a training is asked."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bintally.errors import SettingsError

TABLES = (
    "model",
    "train",
    "augment",
    "pixels",
    "keep",
    "squares",
    "auxiliary",
    "teacher",
    "watch",
    "profile",
    "evaluate",
    "export",
)
"""Tables whose keys may be named as "table.key"."""

SHORT: Mapping[str, tuple[str, str]] = {
    "backbone": ("model", "backbone"),
    "epochs": ("train", "epochs"),
    "batch_size": ("train", "batch_size"),
    "seed": ("train", "seed"),
    "device": ("train", "device"),
    "precision": ("export", "precision"),
}
"""Names without a table that stand for a key with one; "precision" is that of the exported model."""

OWN = ("recipe", "watch", "watch_rules", "stop_on", "profile", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the hyperparameters ask for.

    Attributes:
        recipe: a recipe that comes with bintally.
        tables: table → key → value as it was written, for the settings.
        watch: whether the training is watched by the debug rules.
        watch_rules: thresholds of theirs that come with bintally; None for the familiar ones.
        stop_on: rules that stop the training.
        profile: whether a training step is profiled first.
        log: logs that are kept beside: "tensorboard", "mlflow".
    """

    recipe: str = "seed"
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    watch: bool = False
    watch_rules: str | None = None
    stop_on: tuple[str, ...] = ()
    profile: bool = False
    log: tuple[str, ...] = ()


def parse_hyperparameters(raw: Mapping[str, str]) -> Asked:
    """Reads the hyperparameters of a job. "-" and "_" are the same in a name.

    Args:
        raw: name → value, such as {"recipe": "seed", "train.epochs": "5", "watch": "true"}.

    Raises:
        SettingsError: a name is not known, or given twice, or a value does not fit.
    """
    tables: dict[str, dict[str, str]] = {}
    own: dict[str, str] = {}
    for name, value in raw.items():
        table, dot, key = name.strip().replace("-", "_").partition(".")
        if not dot and table in OWN:
            own[table] = value.strip()
            continue
        if not dot and table in SHORT:
            table, key = SHORT[table]
        elif not dot or table not in TABLES or not key:
            raise SettingsError(f"the hyperparameter {name!r} is not known{_hint(name)}")
        if key in tables.get(table, {}):
            raise SettingsError(f"the hyperparameter {table}.{key} is given twice")
        tables.setdefault(table, {})[key] = value
    stop_on, rules = _listed(own.get("stop_on", "")), own.get("watch_rules") or None
    return Asked(
        recipe=own.get("recipe") or "seed",
        tables=tables,
        watch=_flag("watch", own) or bool(stop_on) or rules is not None,
        watch_rules=rules,
        stop_on=stop_on,
        profile=_flag("profile", own),
        log=_listed(own.get("log", "")),
    )


def _flag(name: str, own: Mapping[str, str]) -> bool:
    value = own.get(name, "false").lower()
    if value in {"true", "1", "yes", "on"}:
        return True
    if value in {"false", "0", "no", "off", ""}:
        return False
    raise SettingsError(f"the hyperparameter {name} is true or false, not {own[name]!r}")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _hint(name: str) -> str:
    known: list[Any] = [*OWN, *SHORT, *(f"{table}." for table in TABLES)]
    plain = name.replace("-", "_")
    close = difflib.get_close_matches(plain, [one.rstrip(".") for one in known], n=1) or difflib.get_close_matches(
        plain.partition(".")[0], TABLES, n=1
    )
    if close:
        return f"; did you mean {close[0]!r}?"
    return f": known are {', '.join(sorted([*OWN, *SHORT]))} and table.key of the tables {', '.join(TABLES)}"
