"""Pushing a split into an object store: a folder a part and count, as managed image jobs read it, and its manifest.

`train/3/00523.jpg` is a training photo of three items; `train/10+/…` those of an open last class. The manifest that
lies beside the folders, `split.parquet`, has these names in it and is written last: whatever it names is there.
"""

import asyncio
import dataclasses
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import Field

from bintally.data.manifest import PARTS, Manifest, digest_of, write_manifest
from bintally.data.store import ObjectInfo, Store
from bintally.errors import BintallyError, DiskFullError, ManifestError, ObjectNotFoundError, StoreError
from bintally.progress import Progress, Silent

SPLIT_FILE = "split.parquet"
"""The manifest's name beside the folders of the parts."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """How a push goes about it.

    Attributes:
        in_flight: how many photos are under way at once.
        attempts: how often a photo is sent before a store that keeps something else is given up.
    """

    in_flight: Annotated[int, Field(ge=1, le=1024)] = 32
    attempts: Annotated[int, Field(ge=1)] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What a push did.

    Attributes:
        to: the store's URL.
        photos: how many the split has.
        sent: objects that were sent, the manifest among them.
        same: objects that the store had already.
        num_bytes: size of what was sent.
        removed: objects of earlier pushes that `prune` removed.
        stale: names of objects in the parts' folders that the split does not have and that are still there.
        digest: of the manifest that was pushed.
        seconds: how long it took.
    """

    to: str
    photos: int
    sent: int
    same: int
    num_bytes: int
    removed: int
    stale: tuple[str, ...]
    digest: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values; of the stale objects only how many there are."""
        return dataclasses.asdict(self) | {"stale": len(self.stale)}

    def line(self) -> str:
        """All of it in a sentence."""
        removed = f", {self.removed:,} removed" if self.removed else ""
        return (
            f"{self.photos:,} photos in {self.to}: {self.sent:,} objects sent ({self.num_bytes / 1e6:,.1f} MB), "
            f"{self.same:,} there already{removed}, all checked, in {self.seconds:,.1f} s"
        )


def pushed(manifest: Manifest) -> Manifest:
    """The manifest that a push writes: the photos of the four parts, named by part and count.

    Raises:
        ManifestError: there are no parts.
    """
    split = manifest.split
    if split is None:
        raise ManifestError(
            f"the manifest of {manifest.root} has no parts: run `bintally split` and push the file that it writes"
        )
    rows = []
    for row in manifest.rows:
        if row.part is None or row.label is None or split.counts.class_of(row.label) is None:
            continue
        folder = split.counts.name(min(row.label, split.counts.highest))
        suffix = PurePosixPath(row.photo.uri).suffix.lower()
        uri = f"{row.part}/{folder}/{row.photo.photo_id}{suffix}"
        rows.append(dataclasses.replace(row, photo=dataclasses.replace(row.photo, uri=uri)))
    made = dataclasses.replace(manifest, rows=tuple(rows), problems=())
    return dataclasses.replace(made, digest=digest_of(made))


def push(
    manifest: Manifest,
    store: Store,
    *,
    prune: bool = False,
    settings: PushSettings | None = None,
    progress: Progress | None = None,
) -> PushReport:
    """Sends a split's photos and then its manifest; what the store has already stays as it is.

    Each object's bytes are compared with what the store says of them: its ETag where that is their MD5, and what is
    read back from it where it is not.

    Args:
        manifest: a split; its photos are held against their hashes.
        store: where to.
        prune: remove what earlier pushes left in the parts' folders and this split does not have.
        settings: how many at once, and the like.
        progress: hears of every photo.

    Raises:
        ManifestError: there are no parts, or a photo is missing or has changed since the manifest was made.
        StoreError: the store refuses, cannot be reached, or keeps other bytes than it was sent.
    """
    named = pushed(manifest)
    start = time.monotonic()
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="push")
    try:
        run = _Push(manifest, named, store, settings or PushSettings(), progress or Silent(), pool)
        stale, removed = asyncio.run(run.all(prune))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return PushReport(
        to=store.url,
        photos=len(named.rows),
        sent=run.sent,
        same=run.same,
        num_bytes=run.num_bytes,
        removed=removed,
        stale=tuple(stale),
        digest=named.digest,
        seconds=round(time.monotonic() - start, 3),
    )


class _Push:
    def __init__(
        self,
        manifest: Manifest,
        named: Manifest,
        store: Store,
        settings: PushSettings,
        progress: Progress,
        pool: ThreadPoolExecutor,
    ) -> None:
        sources = {row.photo.photo_id: manifest.path_of(row) for row in manifest.rows}
        self._photos = [(row.photo.uri, sources[row.photo.photo_id], row.photo.sha256) for row in named.rows]
        self._named, self._store, self._settings = named, store, settings
        self._progress, self._pool = progress, pool
        self.sent = self.same = self.num_bytes = 0

    async def all(self, prune: bool) -> tuple[list[str], int]:
        there = await self._listed()

        async def photo(one: tuple[str, Path, str]) -> None:
            name, path, sha256 = one
            data, md5 = await asyncio.get_running_loop().run_in_executor(self._pool, _read, path, sha256)
            await self._sure(name, data, md5, sha256, there.get(name))

        await self._each("pushing photos", self._photos, photo)
        data = _manifest_bytes(self._named)
        try:
            known = await self._store.head(SPLIT_FILE)
        except ObjectNotFoundError:
            known = None
        await self._sure(SPLIT_FILE, data, _md5(data), hashlib.sha256(data).hexdigest(), known)
        stale = sorted(there.keys() - {name for name, _, _ in self._photos})
        if not prune:
            return stale, 0
        await self._each("removing what is no part of the split", stale, self._store.delete)
        return [], len(stale)

    async def _listed(self) -> dict[str, ObjectInfo]:
        self._progress.begin("listing the store")
        try:
            found = {}
            for part in PARTS:
                async for one in self._store.list(part):
                    found[one.name] = one
                    self._progress.advance()
            return found
        finally:
            self._progress.end()

    async def _sure(self, name: str, data: bytes, md5: str, sha256: str, known: ObjectInfo | None) -> None:
        """Makes sure that the store holds these bytes under this name."""
        if known and known.num_bytes == len(data) and await self._holds(name, known.etag, md5, sha256):
            self.same += 1
            return
        for _ in range(self._settings.attempts):
            etag = await self._store.put(name, data)
            if await self._holds(name, etag, md5, sha256):
                self.sent += 1
                self.num_bytes += len(data)
                return
        raise StoreError(
            f"{self._store.url}/{name}: the store keeps other bytes than it was sent ({self._settings.attempts} tries)"
        )

    async def _holds(self, name: str, etag: str | None, md5: str, sha256: str) -> bool:
        # An ETag of another form, or of an object encrypted by a key of one's own, is no MD5 and says nothing.
        said = re.fullmatch(r'"?([0-9a-f]{32})"?', etag or "")
        return bool(said and said[1] == md5) or await self._store.sha256(name) == sha256

    async def _each(self, task: str, them: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
        """Does `do` for each, so many at once; the first error ends all."""
        left: Iterator[T] = iter(them)

        async def worker() -> None:
            for one in left:
                await do(one)
                self._progress.advance()

        self._progress.begin(task, len(them))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._settings.in_flight, len(them))):
                    group.create_task(worker())
        except* BintallyError as errors:
            raise min(errors.exceptions, key=lambda one: not isinstance(one, DiskFullError)) from None
        finally:
            self._progress.end()


def _read(path: Path, sha256: str) -> tuple[bytes, str]:
    """In a thread: a photo's bytes and their MD5."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}; fetch it again") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ManifestError(f"{path} has changed since the manifest was made: make the manifest and the split again")
    return data, _md5(data)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _manifest_bytes(manifest: Manifest) -> bytes:
    with tempfile.TemporaryDirectory(prefix="bintally-push-") as name:
        path = Path(name) / SPLIT_FILE
        write_manifest(path, dataclasses.replace(manifest, root=path.parent))
        return path.read_bytes()
