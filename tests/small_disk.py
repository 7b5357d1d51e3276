"""A disk that is soon full: a real one where mounting is allowed, else a folder whose writes are counted."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(kw_only=True)
class SmallDisk:
    path: Path
    num_bytes: int
    mounted: bool

    def grow(self, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        if self.mounted:
            subprocess.run(["mount", "-o", f"remount,size={num_bytes}", self.path], check=True)

    def room(self, without: Path) -> int:
        return self.num_bytes - sum(
            one.stat().st_size for one in self.path.rglob("*") if one.is_file() and one != without
        )


@contextlib.contextmanager
def small_disk(path: Path, num_bytes: int) -> Iterator[SmallDisk]:
    """A new folder at `path` that holds about so many bytes."""
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", path]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    disk = SmallDisk(path=path, num_bytes=num_bytes, mounted=mounted)
    if mounted:
        try:
            yield disk
        finally:
            subprocess.run(["umount", path], check=True)
    else:  # no superuser, or a container
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "write_bytes", _counted(disk))
            yield disk


def _counted(disk: SmallDisk) -> object:
    write = Path.write_bytes

    def counted(path: Path, data: bytes) -> int:
        room = disk.room(path) if path.is_relative_to(disk.path) else len(data)
        done = write(path, data[: max(0, room)])
        if done < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return done

    return counted
