"""How files are written: beside, then renamed, so that nothing half-written ever looks whole."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bintally.errors import DiskFullError, UsageError

PART = ".part"
"""How names of half-written files end; they begin with a dot."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_TURN = itertools.count()
_TOKEN = secrets.token_hex(4)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path in the same folder; renames it to `path` when the block ends well.

    Args:
        path: the final name. Its folder is made when it is missing.
        durable: force the bytes to the disk before the rename, so that the file survives a loss of power too.
            Without it the file survives the death of the process only, and is written many times faster.

    Yields:
        A path of no file yet, for the block to write.

    Raises:
        DiskFullError: there was no room; `path` is as it was before.
        UsageError: `path` is a device or a pipe, which a rename would replace for everyone (/dev/null, as root).
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is a device or a pipe: name a file to write")
    # No other process, thread or machine takes this name, so nothing has to be created to hold it.
    part = path.with_name(f".{path.name}.{_TOKEN}{os.getpid():x}-{next(_TURN)}{PART}")
    done = False
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if durable:
            with part.open("rb") as written:
                os.fsync(written.fileno())
        part.replace(path)
        done = True
    except OSError as error:
        if is_full(error):
            raise DiskFullError(f"no room left on the disk for {path}: free some space and run this again") from error
        raise
    finally:
        if not done:
            part.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether the system says that the disk, or the user's share of it, has no room."""
    return error.errno in _FULL


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Gives an empty temporary folder beside `path`; it takes that name when the block ends well.

    What was at `path` is removed once the new folder has its name. The caller asks first whether it may be.

    Yields:
        The folder, for the block to write into.

    Raises:
        DiskFullError: there was no room; `path` is as it was before.
    """
    part = path.with_name(f".{path.name}.{_TOKEN}{os.getpid():x}-{next(_TURN)}{PART}")
    try:
        part.mkdir(parents=True)
        yield part
        for name in part.rglob("*"):
            if name.is_file():
                with name.open("rb") as written:
                    os.fsync(written.fileno())
        if path.exists():
            # Two renames: a kill between them leaves the old folder whole, under a name of its own.
            old = part.with_suffix(".old")
            path.rename(old)
            part.rename(path)
            shutil.rmtree(old)
        else:
            part.rename(path)
    except OSError as error:
        if is_full(error):
            raise DiskFullError(f"no room left on the disk for {path}: free some space and run this again") from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes `data` to `path`, whole or not at all. Raises DiskFullError when there is no room."""
    with replacing(path, durable=durable) as part:
        part.write_bytes(data)


def remove_parts(folder: Path) -> int:
    """Removes what a killed process left half-written in `folder` (not below it). Returns how many files that were.

    Only for a folder that nobody else writes to at the moment.
    """
    parts = [path for path in folder.glob(f".*{PART}") if path.is_file()]
    for part in parts:
        part.unlink(missing_ok=True)
    return len(parts)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, whole or not at all. Raises DiskFullError when there is no room."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON to `path`, whole or not at all. NaN is an error, not invalid JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
