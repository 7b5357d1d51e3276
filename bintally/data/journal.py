"""What a fetch has done already: a file of one line an object, appended to, that outlives a killed process.

A photo or record is given its final name only after it was decoded or parsed. So a file that stands there with the
size that the journal gives was whole, and need not be read again: one `stat` tells. Files that are not in the journal
(killed between rename and line, or put there by somebody else) or have another size (power failed before the bytes
reached the disk) are read again, or fetched again.

A line is a JSON array. That something is missing or malformed in the store holds only until the fetch that found it
came to its end: a killed fetch need not ask again, the next whole one does, for stores change.
"""

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bintally.errors import DiskFullError, StoreError
from bintally.files import is_full

NAME = ".fetch-journal.jsonl"


class Journal:
    """The journal of one dataset folder, locked against a second fetch while it is open.

    Attributes:
        sizes: name → size in bytes of what was written whole.
        verdicts: name → (kind, why) of what an unfinished fetch from the same source could not get.
        counts: id → expected quantity, of records that were looked at to choose by.
    """

    def __init__(self, folder: Path, source: str) -> None:
        """Opens or makes the journal of `folder` for a fetch from `source`.

        Raises:
            StoreError: another process is fetching into this folder.
            DiskFullError: there is no room.
        """
        self.sizes: dict[str, int] = {}
        self.verdicts: dict[str, tuple[str, str]] = {}
        self.counts: dict[str, int] = {}
        self._path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            if is_full(error):
                raise DiskFullError(f"no room left on the disk for {self._path}: free some space") from error
            raise StoreError(f"cannot write into {folder}: {error.strerror}") from error
        try:
            _lock(self._fd, folder)
            self._read(source)
            # A line that a killed process broke off must not run into ours.
            self._write(b"\n" + _line("from", source))
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def whole(self, *objects: tuple[str, int]) -> None:
        """Notes objects that stand under their final name: name and size in bytes. Any thread may call this."""
        self._write(b"".join(_line("whole", name, size) for name, size in objects))

    def verdict(self, name: str, kind: str, why: str) -> None:
        """Notes that an object could not be had."""
        self._write(_line("not", name, kind, why))

    def count(self, photo_id: str, count: int) -> None:
        """Notes a record's expected quantity."""
        self._write(_line("count", photo_id, count))

    def finish(self) -> None:
        """Notes that everything was tried."""
        self._write(_line("done"))

    def _write(self, data: bytes) -> None:
        # One write in append mode: threads and a kill cannot mix lines. Not synced, for the sizes are checked.
        try:
            os.write(self._fd, data)
        except OSError as error:
            if is_full(error):
                raise DiskFullError(
                    f"no room left on the disk for {self._path}: free some space and run this again"
                ) from error
            raise

    def _read(self, source: str) -> None:
        before = source
        with open(self._fd, "rb", closefd=False) as file:
            for raw in file:
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue  # broken off by a kill, or the empty line after one
                match line:
                    case ["whole", str(name), int(size)]:
                        self.sizes[name] = size
                        self.verdicts.pop(name, None)
                    case ["not", str(name), str(kind), str(why)]:
                        self.verdicts[name] = (kind, why)
                    case ["count", str(photo_id), int(count)]:
                        self.counts[photo_id] = count
                    case ["done"]:
                        self.verdicts.clear()
                        self.counts.clear()
                    case ["from", str(here)] if here != before:
                        self.verdicts.clear()
                        self.counts.clear()
                        before = here
                    case _:
                        continue  # the same source again, or a line of a later bintally
        if before != source:
            self.verdicts.clear()
            self.counts.clear()


def _line(*values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


if sys.platform == "win32":

    def _lock(fd: int, folder: Path) -> None:
        """Windows has no advisory locks on descriptors; two fetches into one folder are the user's to avoid."""
else:
    import fcntl

    def _lock(fd: int, folder: Path) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another bintally is fetching into {folder}: wait for it, or stop it") from error
        except OSError:
            return  # a file system without locks
