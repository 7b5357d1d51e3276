"""How a dataclass of settings is filled: defaults < TOML file < BINTALLY_* variables < flags; an unknown key is an error.

Each stage keeps its settings as a frozen dataclass beside the code they steer, with pydantic's `Annotated` limits
on the fields. A TOML file has one table per dataclass: `[train] epochs = 3`. The variable for the same key is
`BINTALLY_TRAIN_EPOCHS`, and the flag `--set train.epochs=3`.
"""

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bintally.errors import SettingsError

T = TypeVar("T")

Tables = Mapping[str, Mapping[str, Any]]
"""The contents of a settings file: table name to keys."""


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a settings file.

    Raises:
        SettingsError: the file is missing, is no TOML, or has keys outside tables.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}") from error
    for key, value in body.items():
        if not isinstance(value, dict):
            raise SettingsError(f"{path}: {key!r} stands outside a table; put it under one, as in [train]")
    return body


def check_tables(tables: Tables, known: Mapping[str, type], source: str) -> None:
    """Raises SettingsError when `tables` has a table that is not among `known`."""
    for name in tables:
        if name not in known:
            raise SettingsError(f"{source}: unknown table [{name}]{_hint(name, known)}")


def fill(
    cls: type[T],
    section: str,
    *,
    file: Tables | None = None,
    file_name: str = "settings file",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> T:
    """Makes the settings `cls` of one section from its four sources, later ones winning.

    Args:
        cls: a dataclass whose fields all have defaults.
        section: its table's name, such as "train".
        file: the tables of a settings file.
        file_name: how messages name that file.
        environ: environment variables; the process's own by default.
        flags: key to value; None values are taken as "not given". Strings are read as TOML values where the
            field is no string.

    Raises:
        SettingsError: a key is unknown or a value does not fit its field; the message names key and source.
    """
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    hints = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}

    def take(key: str, value: Any, source: str) -> None:
        if key not in fields:
            raise SettingsError(f"{source}: unknown setting {section}.{key}{_hint(key, fields)}")
        values[key] = _value(hints[key], value, f"{source}: {section}.{key}")

    for key, value in (file or {}).get(section, {}).items():
        take(key, value, file_name)
    prefix = f"BINTALLY_{section.upper()}_"
    for name, value in sorted((os.environ if environ is None else environ).items()):
        if name.startswith(prefix):
            take(name.removeprefix(prefix).lower(), value, f"the variable {name}")
    for key, value in (flags or {}).items():
        if value is not None:
            take(key, value, "the flag")
    try:
        return cls(**values)
    except ValueError as error:
        raise SettingsError(f"[{section}]: {error}") from error


def fill_set(known: Mapping[str, type[T]], path: Path | None) -> dict[str, T]:
    """Makes one object of each class in a set, such as debug rules, from their defaults and a TOML file.

    The file has a table per name and a key per setting, as in `[Overfit] ratio_threshold = 0.5`; `enabled = false`
    leaves one out.

    Raises:
        SettingsError: a table is none of the set, or a key none of its settings.
    """
    tables = read_toml(path) if path else {}
    source = str(path) if path else "defaults"
    check_tables(tables, known, source)
    made: dict[str, T] = {}
    for name, cls in known.items():
        table = dict(tables.get(name, {}))
        enabled = table.pop("enabled", True)
        if not isinstance(enabled, bool):
            raise SettingsError(f"{source}: {name}.enabled is true or false, not {enabled!r}")
        if enabled:
            made[name] = fill(cls, name, file={name: table}, file_name=source)
    return made


def parse_assignments(words: Iterable[str]) -> dict[str, dict[str, str]]:
    """Reads `--set section.key=value` words into section → key → value.

    Raises:
        SettingsError: a word has no such form.
    """
    found: dict[str, dict[str, str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        section, dot, key = name.strip().partition(".")
        if not (equals and dot and section and key):
            raise SettingsError(f"--set {word!r}: write it as section.key=value, as in --set train.epochs=3")
        found.setdefault(section, {})[key.strip().replace("-", "_")] = value.strip()
    return found


def as_dict(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as plain JSON-ready values (tuples become lists)."""
    dumped: dict[str, Any] = TypeAdapter(type(settings)).dump_python(settings, mode="json")
    return dumped


def _value(hint: Any, value: Any, where: str) -> Any:
    # A dataclass or model brings its own configuration and takes no other.
    config = None if dataclasses.is_dataclass(hint) else ConfigDict(extra="forbid")
    adapter: TypeAdapter[Any] = TypeAdapter(hint, config=config)
    try:
        return adapter.validate_python(value)
    except ValidationError as first:
        error = first
    if isinstance(value, str):
        try:
            return adapter.validate_python(tomllib.loads(f"value = {value}")["value"])
        except tomllib.TOMLDecodeError:
            pass  # not written as a TOML value: the first error says what is wrong with it
        except ValidationError as second:
            error = second
    problem = error.errors()[0]
    raise SettingsError(f"{where} = {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}")


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(names))}"
