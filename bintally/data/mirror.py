"""A local mirror of a split that was pushed to an object store: checked, resumed, and bounded in size."""

import asyncio
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from bintally import files
from bintally.data.folders import NAMES
from bintally.data.manifest import SUFFIXES, read_manifest
from bintally.data.push import SPLIT_FILE
from bintally.data.store import Store
from bintally.errors import BintallyError, DiskFullError, ManifestError, ObjectNotFoundError, StoreError, UsageError
from bintally.progress import Progress, Silent

_USED_FILE = ".used"
_IN_USE_S = 24 * 3600
"""A mirror that was used so lately may still be: it is not removed to make room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """Where photos of a store are kept, and how they come there.

    Attributes:
        folder: the mirrors' folder; empty for `~/.cache/bintally/mirrors` (under XDG_CACHE_HOME where that is set).
        max_gb: bound of all mirrors together; those unused for longest go first.
        in_flight: how many photos are asked for at once.
        attempts: how often a photo that differs from its hash is taken again.
    """

    folder: str = ""
    max_gb: Annotated[float, Field(gt=0)] = 50.0
    in_flight: Annotated[int, Field(ge=1, le=1024)] = 32
    attempts: Annotated[int, Field(ge=1)] = 3

    @property
    def path(self) -> Path:
        """The mirrors' folder."""
        if self.folder:
            return Path(self.folder).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "bintally" / "mirrors"


class _Wanted(NamedTuple):
    name: str
    num_bytes: int
    sha256: str  # empty when no manifest tells it
    md5: str  # likewise; the store's ETag where that is one


def mirror(
    store: Store, settings: MirrorSettings | None = None, *, endpoint: str = "", progress: Progress | None = None
) -> Path:
    """Brings a pushed split, or class folders, to this machine; what is there whole already is not asked for again.

    Args:
        store: what `bintally push` wrote to, or class folders without a manifest.
        settings: where to, and how much.
        endpoint: of the store: the same bucket's name at another service is another bucket.
        progress: hears of every photo.

    Returns:
        The local folder, laid out as the store is. A photo there is what the manifest's SHA-256 says; without a
        manifest, what the store's MD5 says where it tells one.

    Raises:
        ManifestError: there is neither a manifest nor class folders, or the manifest is damaged.
        StoreError: the store fails, or gives photos that differ from their hashes.
        UsageError: the photos need more than the bound.
        DiskFullError: there is no room.
    """
    settings, progress = settings or MirrorSettings(), progress or Silent()
    where = f"{endpoint} {store.url.rstrip('/')}"
    last = re.sub(r"[^A-Za-z0-9._-]", "-", store.url.rstrip("/").rpartition("/")[2])[:40]
    folder = settings.path / f"{last}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _USED_FILE).touch()
    asyncio.run(_Mirror(store, folder, settings, progress).all())
    return folder


class _Mirror:
    def __init__(self, store: Store, folder: Path, settings: MirrorSettings, progress: Progress) -> None:
        self._store, self._folder, self._settings, self._progress = store, folder, settings, progress

    async def all(self) -> None:
        try:
            manifest: bytes | None = await self._store.get(SPLIT_FILE)
        except ObjectNotFoundError:
            manifest = None
        wanted = await self._listed() if manifest is None else self._named(manifest)
        _make_room(self._settings, self._folder, sum(one.num_bytes for one in wanted), self._progress)
        missing = self._missing(wanted)
        if missing:
            told = f"{len(missing):,} of {len(wanted):,} photos" if len(missing) < len(wanted) else "photos"
            await self._take_all(f"fetching {told} from {self._store.url}", missing)

    def _named(self, manifest: bytes) -> list[_Wanted]:
        path = self._folder / SPLIT_FILE
        files.write_bytes(path, manifest)
        found = read_manifest(path)
        if found.root != self._folder.resolve():
            raise ManifestError(
                f"{self._store.url}/{SPLIT_FILE} names photos elsewhere ({found.root}): put it there by `bintally push`"
            )
        return [
            _Wanted(row.photo.uri, row.num_bytes, row.photo.sha256, "") for row in found.rows if row.part is not None
        ]

    async def _listed(self) -> list[_Wanted]:
        (self._folder / SPLIT_FILE).unlink(missing_ok=True)
        wanted = []
        self._progress.begin("listing the store")
        try:
            for part in NAMES:
                async for one in self._store.list(part):
                    inner = Path(one.name)
                    if inner.suffix.lower() in SUFFIXES and len(inner.parts) == 3 and ".." not in inner.parts:
                        said = re.fullmatch(r'"?([0-9a-f]{32})"?', one.etag or "")
                        wanted.append(_Wanted(one.name, one.num_bytes, "", said[1] if said else ""))
        finally:
            self._progress.end()
        if not wanted:
            raise ManifestError(
                f"{self._store.url} holds neither {SPLIT_FILE} nor class folders (train/3/…): `bintally push` a split"
            )
        return wanted

    def _missing(self, wanted: list[_Wanted]) -> list[_Wanted]:
        """What has to be fetched; files that the store does not have (any more) are removed."""
        names = {one.name for one in wanted}
        for part in NAMES:
            for path in (self._folder / part).rglob("*"):
                if path.is_file() and path.relative_to(self._folder).as_posix() not in names:
                    path.unlink()
        self._progress.begin("checking the mirror", len(wanted))
        missing = []
        for one in wanted:
            path = self._folder / one.name
            whole = path.is_file() and path.stat().st_size == one.num_bytes and bool(one.sha256 or one.md5)
            if not (whole and _is(one, path.read_bytes())):
                missing.append(one)
            self._progress.advance()
        self._progress.end()
        return missing

    async def _take_all(self, task: str, missing: list[_Wanted]) -> None:
        left: Iterator[_Wanted] = iter(missing)

        async def worker() -> None:
            for one in left:
                await self._take(one)
                self._progress.advance()

        self._progress.begin(task, len(missing))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._settings.in_flight, len(missing))):
                    group.create_task(worker())
        except* BintallyError as errors:
            raise min(errors.exceptions, key=lambda one: not isinstance(one, DiskFullError)) from None
        finally:
            self._progress.end()

    async def _take(self, one: _Wanted) -> None:
        for _ in range(self._settings.attempts):
            data = await self._store.get(one.name)
            # An object that is encrypted by a key of one's own has an ETag that looks like an MD5 and is none: without
            # a manifest the size and the transport's own checks must do.
            if _is(one, data) if one.sha256 else len(data) == one.num_bytes:
                files.write_bytes(self._folder / one.name, data, durable=False)
                return
        raise StoreError(
            f"{self._store.url}/{one.name} is not what {SPLIT_FILE} says of it ({self._settings.attempts} tries): "
            "push the split again"
        )


def _is(one: _Wanted, data: bytes) -> bool:
    if one.sha256:
        return hashlib.sha256(data).hexdigest() == one.sha256
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == one.md5


def _make_room(settings: MirrorSettings, folder: Path, needed: int, progress: Progress) -> None:
    """Removes other mirrors, the longest unused first, until `needed` bytes fit within the bound."""
    bound = int(settings.max_gb * 1e9)
    if needed > bound:
        raise UsageError(
            f"the photos need {needed / 1e9:.1f} GB, above the bound of {settings.max_gb:g} GB: --set mirror.max_gb=…"
        )
    others = {
        one: _bytes_in(one) for one in settings.path.iterdir() if (one / _USED_FILE).is_file() and one != folder
    }
    for old in sorted(others, key=_last_used):
        if sum(others.values()) + needed <= bound:
            return
        if time.time() - _last_used(old) > _IN_USE_S:
            progress.message(f"removing the mirror {old}, unused since {time.ctime(_last_used(old))}")
            shutil.rmtree(old, ignore_errors=True)
            others.pop(old)
    if sum(others.values()) + needed > bound:
        raise UsageError(
            f"{settings.path} holds {sum(others.values()) / 1e9:.1f} GB of photos used within a day, and "
            f"{needed / 1e9:.1f} GB more are above the bound of {settings.max_gb:g} GB: --set mirror.max_gb=…"
        )


def _last_used(folder: Path) -> float:
    try:
        return (folder / _USED_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
