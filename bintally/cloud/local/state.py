"""What the service knows, kept as one JSON file a thing, so that it survives a restart and a person can read it."""

import copy
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bintally import files
from bintally.errors import BintallyError, UsageError

Record = dict[str, Any]
"""One thing as its Describe operation answers it; keys that begin with "_" are the service's own and never shown."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


class State:
    """Every job, model, endpoint and tag, in memory and on disk. Safe to use from any thread.

    Raises:
        UsageError: another service runs on the same folder.
        BintallyError: a file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._records: dict[str, dict[str, Record]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._held)
            raise UsageError(
                f"another `bintally cloud local` runs in {folder.parent}: name another with --to"
            ) from error
        for path in sorted(folder.glob("*/*.json")):
            try:
                self._records.setdefault(path.parent.name, {})[unquote(path.stem)] = json.loads(
                    path.read_text("utf-8")
                )
            except (OSError, ValueError) as error:
                raise BintallyError(f"{path} is damaged: {error}; remove it to go on without what it said") from error
        for kind in folder.iterdir():
            if kind.is_dir():
                files.remove_parts(kind)

    def close(self) -> None:
        """Lets another service take the folder."""
        os.close(self._held)

    def get(self, kind: str, name: str) -> Record | None:
        """A copy of one record, or None when there is none."""
        with self._lock:
            found = self._records.get(kind, {}).get(name)
            return copy.deepcopy(found)

    def all(self, kind: str) -> list[Record]:
        """Copies of every record of a kind."""
        with self._lock:
            return copy.deepcopy(list(self._records.get(kind, {}).values()))

    def names(self, kind: str) -> Iterator[str]:
        """The names of every record of a kind."""
        with self._lock:
            return iter(list(self._records.get(kind, {})))

    def add(self, kind: str, name: str, record: Record, taken: Callable[[], Exception]) -> None:
        """Keeps a new record. Raises what `taken` gives when there is one of that name."""
        with self._lock:
            if name in self._records.get(kind, {}):
                raise taken()
            self._put(kind, name, copy.deepcopy(record))

    def change(self, kind: str, name: str, **fields: Any) -> Record:
        """Sets members of a record (None takes one away) and notes the time. Returns a copy; empty when it is gone."""
        with self._lock:
            record = self._records.get(kind, {}).get(name)
            if record is None:
                return {}
            record = {**record, **fields}
            if "LastModifiedTime" in record:
                record["LastModifiedTime"] = now()
            self._put(kind, name, {key: value for key, value in record.items() if value is not None})
            return copy.deepcopy(self._records[kind][name])

    def change_if(self, kind: str, name: str, allowed: Callable[[Record], bool], **fields: Any) -> Record | None:
        """As `change`, when `allowed` says so of the record as it is; otherwise None. Nothing comes between the two."""
        with self._lock:
            record = self._records.get(kind, {}).get(name)
            if record is None or not allowed(record):
                return None
            return self.change(kind, name, **fields)

    def remove(self, kind: str, name: str) -> None:
        """Forgets a record, if there is one."""
        with self._lock:
            if self._records.get(kind, {}).pop(name, None) is not None:
                self._path(kind, name).unlink(missing_ok=True)

    def _put(self, kind: str, name: str, record: Record) -> None:
        files.write_json(self._path(kind, name), record)
        self._records.setdefault(kind, {})[name] = record

    def _path(self, kind: str, name: str) -> Path:
        # Capitals are written out: a file system may take "Job" and "job" for one name, the service does not.
        plain = "".join(one if one in _PLAIN else "".join(f"%{b:02x}" for b in one.encode()) for one in name)
        return self._folder / kind / f"{plain}.json"


def shown(record: Record) -> Record:
    """A record without the members that are the service's own."""
    return {key: value for key, value in record.items() if not key.startswith("_")}


def now() -> float:
    """Seconds since 1970, to the millisecond, as the service writes times."""
    return round(time.time(), 3)
