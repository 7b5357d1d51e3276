"""Decoded photos on disk: squares that do not fit in memory are decoded once, by the first run that wants them.

One set a preprocessing, shared by runs: segments of raw squares, each with an index that names photo and checksum line
by line. A square is written before its line, and its checksum is looked at whenever it is read: what a kill or a loss
of power left half-written counts as not there. One process at a time writes a set; others read along. The folder is
bounded; segments not used for longest go first, and can go at any time.
"""

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import filelock
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bintally.pixels import PixelSpec

FORMAT = 1
"""Part of every set's key: raised when the files or what `pixels` makes of a photo change."""

SEGMENT = 256 << 20
"""Bytes of a segment at most; a small bound has smaller ones, so that little goes at a time."""

IN_USE_S = 600.0
"""Segments used within so many seconds are not removed: a run is at them."""

_DATA, _INDEX, _LOCK = ".squares", ".index", "write.lock"
_TOUCH_S = 120.0
_LOOK_AGAIN_S = 5.0
_SPARE = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareSettings:
    """Where decoded photos are kept on disk, when they do not fit in memory (`train.cache_mb`).

    Attributes:
        folder: their folder; empty for `~/.cache/bintally/squares` (under XDG_CACHE_HOME where that is set).
        max_gb: bound on the folder, in GB (1e9 bytes); 0 keeps nothing on disk. A photo takes size × size × 3 bytes:
            10,000 of 224 pixels are 1.5 GB.
    """

    folder: str = ""
    max_gb: Annotated[float, Field(ge=0)] = 10.0

    @property
    def path(self) -> Path:
        """The folder."""
        if self.folder:
            return Path(self.folder).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "bintally" / "squares"


class Squares:
    """The kept squares of one preprocessing. Threads may share it. Whatever the disk does, no error comes of it."""

    def __init__(self, spec: PixelSpec, settings: SquareSettings) -> None:
        key: dict[str, object] = {"format": FORMAT, "size": spec.size, "fit": spec.fit}
        if spec.fit == "pad":
            key["grey"] = [round(255 * mean) for mean in spec.mean]
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        self._root, self._folder = settings.path, settings.path / f"{spec.size}-{spec.fit}-{name}"
        self._shape = (spec.size, spec.size, 3)
        self._num_bytes = spec.size * spec.size * 3
        self._bound = int(settings.max_gb * 1e9)
        self._per_segment = max(1, min(SEGMENT, self._bound // 16) // self._num_bytes)
        self._guard = threading.Lock()
        self._segments: dict[str, _Segment] = {}
        self._places: dict[bytes, tuple[str, int, int]] = {}
        self._lock = filelock.FileLock(self._folder / _LOCK, thread_local=False)
        self._writing: _Writer | None = None
        self._gave_up = self._bound < self._num_bytes
        self._looked = 0.0
        self._look()

    def __len__(self) -> int:
        """How many squares are there."""
        return len(self._places)

    def get(self, sha256: str) -> NDArray[np.uint8] | None:
        """A photo's square, uint8 (size, size, 3); None when it is not there or damaged."""
        key = bytes.fromhex(sha256)
        place = self._places.get(key)
        if place is None and self._writing is None and time.monotonic() - self._looked > _LOOK_AGAIN_S:
            with self._guard:
                self._look()  # another process writes: it may have got there meanwhile
            place = self._places.get(key)
        if place is None:
            return None
        name, row, checksum = place
        data = self._segments[name].read(row, self._num_bytes)
        if len(data) == self._num_bytes and zlib.crc32(data) == checksum:
            return np.frombuffer(data, dtype=np.uint8).reshape(self._shape)
        with self._guard:
            self._places.pop(key, None)
        self._segments[name].remove()  # whatever spoilt this one may have spoilt others; what is open stays readable
        return None

    def put(self, sha256: str, square: NDArray[np.uint8]) -> None:
        """Keeps a photo's square, as long as there is room and nobody else is writing."""
        key = bytes.fromhex(sha256)
        with self._guard:
            if self._gave_up or key in self._places:
                return
            try:
                writer = self._writer()
                if writer is not None:
                    row, checksum = writer.append(sha256, np.ascontiguousarray(square).tobytes())
                    self._places[key] = (writer.name, row, checksum)
            except OSError:
                self._stop()  # a full disk, or a folder that is not ours: photos are decoded each time

    def close(self) -> None:
        """Lets files and lock go."""
        with self._guard:
            self._stop()
            for segment in self._segments.values():
                segment.close()
            self._segments.clear()
            self._places.clear()

    def _stop(self) -> None:
        self._gave_up = True
        if self._writing:
            self._writing.close()
            self._writing = None
        self._lock.release()

    def _writer(self) -> "_Writer | None":
        if self._writing and self._writing.num < self._per_segment:
            return self._writing
        if not self._lock.is_locked:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout:
                return None  # another process is at it
            self._look()
        if self._writing:
            self._writing.close()
            self._writing = None
        if not _make_room(self._root, self._bound, self._per_segment * self._num_bytes):
            self._stop()
            return None
        self._writing = _Writer(self._folder, uuid.uuid4().hex)
        self._segments[self._writing.name] = _Segment(self._writing.data)
        return self._writing

    def _look(self) -> None:
        """Takes in the indexes as they are now."""
        self._looked = time.monotonic()
        for index in sorted(self._folder.glob(f"*{_INDEX}")):
            name = index.stem
            try:
                lines = index.read_bytes().split(b"\n")[:-1]  # what follows the last line end is half a line
                segment = self._segments.get(name) or _Segment(index.with_suffix(_DATA))
            except OSError:
                continue
            self._segments[name] = segment
            for row, line in enumerate(lines):
                with contextlib.suppress(ValueError):
                    sha256, checksum = line.split()
                    self._places.setdefault(bytes.fromhex(sha256.decode()), (name, row, int(checksum, 16)))


class _Segment:
    """One file of squares, read from any thread. Reads, not a mapping: a file cut short is then no crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = path.open("rb")
        self._touched = 0.0

    def read(self, row: int, size: int) -> bytes:
        now = time.monotonic()
        if now - self._touched > _TOUCH_S:
            self._touched = now
            with contextlib.suppress(OSError):
                os.utime(self._path)  # when it was last used
        file = self._file
        try:
            return os.pread(file.fileno(), size, row * size) if file else b""
        except (OSError, ValueError):
            return b""

    def remove(self) -> None:
        """Takes it off the disk."""
        with contextlib.suppress(OSError):
            self._path.with_suffix(_INDEX).unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets the file go."""
        if self._file:
            self._file.close()
        self._file = None


class _Writer:
    """The segment that is being filled."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.num = name, 0
        self.data = folder / f"{name}{_DATA}"
        self._file = self.data.open("xb", buffering=0)
        self._index = (folder / f"{name}{_INDEX}").open("xb", buffering=0)

    def append(self, sha256: str, square: bytes) -> tuple[int, int]:
        """Row and checksum."""
        checksum = zlib.crc32(square)
        if self._file.write(square) != len(square):
            raise OSError("the disk is full")
        self._index.write(f"{sha256} {checksum:08x}\n".encode())
        self.num += 1
        return self.num - 1, checksum

    def close(self) -> None:
        self._file.close()
        self._index.close()


def _make_room(root: Path, bound: int, needed: int) -> bool:
    """Removes segments of all sets, the longest unused first, until so many bytes fit within the bound and the disk."""
    found = {}
    for path in root.glob(f"*/*{_DATA}"):
        with contextlib.suppress(OSError):
            found[path] = path.stat()
    held = sum(stat.st_size for stat in found.values())
    free = shutil.disk_usage(root).free - _SPARE
    for path in sorted(found, key=lambda one: found[one].st_mtime):
        if held + needed <= bound and needed <= free:
            break
        if time.time() - found[path].st_mtime <= IN_USE_S:
            continue
        path.with_suffix(_INDEX).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        held, free = held - found[path].st_size, free + found[path].st_size
    return held + needed <= bound and needed <= free
