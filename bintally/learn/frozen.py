"""Kept activations: what the frozen parts make of each photo is computed once, kept on disk and shared by runs.

One set a combination of frozen weights, preprocessing and precision, as chunks in safetensors, each written whole
with the names of its views in its header. What a killed process had finished is there for the next one; two processes
do not compute the same set at once. The files hold nothing of a model that is trained and can go at any time.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import filelock
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bintally import files
from bintally.errors import DiskFullError, RunError, RunStoppedError
from bintally.learn.model import CountModel
from bintally.pixels import PixelSpec, normalise
from bintally.progress import Progress

FORMAT = 1
"""Part of every set's key: raised when the files or what is computed change."""

View = Literal["plain", "mirrored"]
VIEWS: tuple[View, ...] = ("plain", "mirrored")

IN_MEMORY = 512 << 20
"""Sets of views up to this many bytes are copied into memory; larger ones are read through the page cache."""

_CHUNK = 64 << 20
_AT_LEAST_EVERY = 60.0
"""Seconds after which a chunk is written, full or not: what a kill may lose."""

_SET_FILE = "set.json"
_LOCK_FILE = "write.lock"
_Done = tuple[list[tuple[str, View]], Tensor, list[float]]  # a batch's views, their activations, their input means


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSettings:
    """Where activations are kept, and how much of them.

    Attributes:
        folder: their folder; empty for `~/.cache/bintally/activations` (under XDG_CACHE_HOME where that is set).
        max_gb: bound on the folder, in GB (1e9 bytes). Sets not used for longest go first; what does not fit even
            then is not kept.
        at_once: photos that go through the frozen parts at once.
    """

    folder: str = ""
    max_gb: Annotated[float, Field(gt=0)] = 20.0
    at_once: Annotated[int, Field(ge=1, le=1024)] = 32

    @property
    def path(self) -> Path:
        """The folder."""
        if self.folder:
            return Path(self.folder).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "bintally" / "activations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A photo whose activations are wanted.

    Attributes:
        sha256: of the photo file; what the activations are kept under.
        views: which views of it.
    """

    sha256: str
    views: tuple[View, ...] = VIEWS


class NotKeptError(RunError):
    """The activations cannot be kept within the bound or on this disk; nothing is lost but time."""


class Kept:
    """Kept activations, to be taken by photo and view.

    Attributes:
        shape: of one view's activations: (C, h, w), or (C, 1, 1) when they are pooled.
        dtype: as the frozen parts gave them.
        num_bytes: of all the views that were asked for.
        computed: how many views were computed now; the others were there.
        input_means: photo hash → mean of its normalised values, noted when it went through the frozen parts.
    """

    def __init__(
        self,
        chunks: list[Tensor],
        place: dict[tuple[str, View], tuple[int, int]],
        computed: int,
        input_means: Mapping[str, float],
    ) -> None:
        self.shape: tuple[int, ...] = tuple(chunks[0].shape[1:])
        self.dtype: torch.dtype = chunks[0].dtype
        self.num_bytes = len(place) * chunks[0][0].nbytes
        self.computed = computed
        self.input_means = input_means
        if self.num_bytes <= IN_MEMORY:
            chunks, place = (
                [torch.stack([chunks[c][r] for c, r in place.values()])],
                {key: (0, row) for row, key in enumerate(place)},
            )
        self._chunks = chunks
        self._place = place

    def rows(self, sha256s: Sequence[str], view: View) -> NDArray[np.int64]:
        """(n, 2) Where the activations of photos lie, for `take`.

        Raises:
            KeyError: a photo's view was not asked for.
        """
        return np.array([self._place[sha, view] for sha in sha256s], dtype=np.int64).reshape(-1, 2)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """(n, C, h, w) Activations, in the order of `rows` (n, 2)."""
        if len(self._chunks) == 1:
            return self._chunks[0][torch.from_numpy(np.ascontiguousarray(rows[:, 1]))]
        return torch.stack([self._chunks[chunk][row] for chunk, row in rows.tolist()])


def keep(
    model: CountModel,
    wanted: Sequence[Wanted],
    squares: Callable[[Sequence[int]], NDArray[np.uint8]],
    spec: PixelSpec,
    *,
    forward: Callable[[Tensor], Tensor],
    precision: str,
    settings: KeepSettings,
    progress: Progress,
) -> Kept:
    """Makes sure that the activations of all views wanted are kept, computing those that are not, and opens them.

    With every part of the backbone frozen, the average pooled features are kept instead of the feature maps: they go
    through `CountModel.logits_of` unchanged, as a map of one pixel.

    Args:
        model: with at least one frozen part.
        wanted: the photos; the same photo may come twice.
        squares: uint8 (n, size, size, 3) of the photos at these places of `wanted`.
        spec: input size and statistics; "mirrored" is the square from right to left.
        forward: normalised photos (n, 3, size, size) on the CPU to `model.frozen_features` of them, at the run's
            precision and on its device.
        precision: what `forward` computes with, such as "bf16-mixed on cpu"; part of the key.
        settings: where, and how much at most.
        progress: is told the size before anything is computed.

    Raises:
        NotKeptError: they do not fit within the bound, or the disk has no room.
        ValueError: nothing is frozen, or nothing is wanted.
    """
    if not model.num_frozen or not wanted:
        raise ValueError("kept activations need a frozen part and at least one photo")
    pooled = not any(parameter.requires_grad for parameter in model.backbone.parameters())

    def features(squares_NHWC: NDArray[np.uint8], view: View) -> tuple[Tensor, list[float]]:
        x_NCHW = torch.from_numpy(normalise(squares_NHWC, spec))
        with torch.no_grad():
            h_NCHW = forward(x_NCHW.flip(3) if view == "mirrored" else x_NCHW)
            # In the order of memory that the network works in the mean comes out the same to the bit.
            pooled_NCHW = h_NCHW.mean(dim=(2, 3), keepdim=True) if pooled else h_NCHW
            return pooled_NCHW.cpu().contiguous(), x_NCHW.mean(dim=(1, 2, 3)).tolist()

    digest = weights_digest(model)
    key = {"format": FORMAT, "weights": digest, "precision": precision, "pooled": pooled}
    key |= {"size": spec.size, "mean": list(spec.mean), "std": list(spec.std)}
    if spec.fit != "squash":
        key["fit"] = spec.fit
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    folder = settings.path / name
    places: dict[tuple[str, View], int] = {}
    for place, one in enumerate(wanted):
        for view in one.views:
            places.setdefault((one.sha256, view), place)
    keys = list(places)

    chunks, found, means = _open(folder, keys)
    computed = 0
    if len(found) < len(keys):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _writing(folder, progress):
                chunks, found, means = _open(folder, keys)  # another process may have computed them meanwhile
                missing = [one for one in keys if one not in found]
                if missing:
                    one_view, _ = features(np.zeros((1, spec.size, spec.size, 3), dtype=np.uint8), "plain")
                    _make_room(settings, folder, len(missing) * one_view.nbytes, len(missing), progress)
                    files.write_json(folder / _SET_FILE, key)
                    _compute(folder, missing, places, squares, features, one_view.nbytes, settings, progress)
                    computed = len(missing)
                chunks, found, means = _open(folder, keys)
        except DiskFullError as error:
            raise NotKeptError(f"the disk has no room for kept activations in {settings.path}") from error
        except OSError as error:
            raise NotKeptError(f"cannot keep activations in {settings.path}: {error.strerror or error}") from error
    if len(found) < len(keys):
        raise NotKeptError(f"{len(keys) - len(found):,} kept activations in {folder} went away while they were read")
    os.utime(folder)  # when it was last used
    return Kept(chunks, found, computed, means)


def weights_digest(model: CountModel) -> str:
    """SHA-256 over the frozen parts' weights, buffers and architecture."""
    digest = hashlib.sha256()
    config: Any = model.backbone.config
    # Not the versions of libraries, which the configuration names too.
    digest.update(json.dumps([model.num_frozen, config.to_diff_dict()], sort_keys=True, default=str).encode())
    for number, part in enumerate(model.frozen_parts):
        for name, value in part.state_dict().items():
            digest.update(f"{number} {name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _compute(
    folder: Path,
    missing: Sequence[tuple[str, View]],
    places: dict[tuple[str, View], int],
    squares: Callable[[Sequence[int]], NDArray[np.uint8]],
    features: Callable[[NDArray[np.uint8], View], tuple[Tensor, list[float]]],
    view_bytes: int,
    settings: KeepSettings,
    progress: Progress,
) -> None:
    per_chunk = max(settings.at_once, _CHUNK // view_bytes)
    done: list[_Done] = []
    written = time.monotonic()
    progress.begin("kept activations", len(missing))
    try:
        for batch, photos in _prefetched(_batches(missing, settings.at_once), places, squares):
            done.append((batch, *features(photos, batch[0][1])))
            num = sum(len(one) for one, _, _ in done)
            if num >= per_chunk or time.monotonic() - written > _AT_LEAST_EVERY:
                _write_chunk(folder, done)
                done, written = [], time.monotonic()
            progress.advance(len(batch))
    except RunStoppedError:
        _write_chunk(folder, done)
        raise
    else:
        _write_chunk(folder, done)
    finally:
        progress.end()


def _batches(missing: Sequence[tuple[str, View]], size: int) -> Iterator[list[tuple[str, View]]]:
    """Photos of one view at a time."""
    for view in VIEWS:
        of_view = [one for one in missing if one[1] == view]
        for start in range(0, len(of_view), size):
            yield of_view[start : start + size]


def _prefetched(
    batches: Iterator[list[tuple[str, View]]],
    places: dict[tuple[str, View], int],
    squares: Callable[[Sequence[int]], NDArray[np.uint8]],
) -> Iterator[tuple[list[tuple[str, View]], NDArray[np.uint8]]]:
    """Each batch with its photos, the next one being read while this one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for batch in batches:
            coming = (batch, reader.submit(squares, [places[one] for one in batch]))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _write_chunk(folder: Path, done: Sequence[_Done]) -> None:
    if not done:
        return
    names = [name for batch, _, _ in done for name in batch]
    means = [round(mean, 6) for _, _, some in done for mean in some]
    said = {"views": json.dumps(names), "input_means": json.dumps(means)}
    with files.replacing(folder / f"{uuid.uuid4().hex}.safetensors") as part:
        try:
            save_file({"features": torch.cat([h_NCHW for _, h_NCHW, _ in done])}, part, said)
        except SafetensorError as error:
            # Its library tells of a full disk in words alone.
            raise DiskFullError(f"{part}: {error}") if "No space left" in str(error) else error from error


def _open(
    folder: Path, keys: Sequence[tuple[str, View]]
) -> tuple[list[Tensor], dict[tuple[str, View], tuple[int, int]], dict[str, float]]:
    """The chunks of a set, mapped from disk, where in them the views are, in the order of `keys`, and input means."""
    chunks: list[Tensor] = []
    found: dict[tuple[str, View], tuple[int, int]] = {}
    means: dict[str, float] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                said = file.metadata() or {}
                names = json.loads(said["views"])
                # Chunks of before these were noted have none.
                means |= dict(zip((sha for sha, _ in names), json.loads(said.get("input_means", "[]")), strict=False))
                chunk = file.get_tensor("features")
        except (OSError, SafetensorError, KeyError, ValueError):
            continue  # damaged or gone: its views count as not kept
        for row, (sha256, view) in enumerate(names[: len(chunk)]):
            found[sha256, view] = (len(chunks), row)
        chunks.append(chunk)
    return chunks, {key: found[key] for key in keys if key in found}, means


class _writing:  # noqa: N801 - used as a with statement's verb
    """Holds a set's lock; says when it has to wait for another process."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._lock = filelock.FileLock(folder / _LOCK_FILE)
        self._progress = progress

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            self._progress.message("another process computes these activations: waiting for it")
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _make_room(settings: KeepSettings, folder: Path, needed: int, views: int, progress: Progress) -> None:
    """Tells the size; removes other sets, the longest unused first, until it fits within the bound."""
    bound = int(settings.max_gb * 1e9)
    progress.message(f"kept activations: {_size(needed)} for {views:,} views, in {settings.path}")
    sizes = {one: _bytes_in(one) for one in settings.path.iterdir() if (one / _SET_FILE).is_file() or one == folder}
    own = sizes.pop(folder, 0)
    if own + needed > bound:
        raise NotKeptError(
            f"kept activations would take {_size(own + needed)}, above the bound of {_size(bound)} (keep.max_gb)"
        )
    free = shutil.disk_usage(settings.path).free
    spare = max(256 << 20, needed // 20)
    for old in sorted(sizes, key=_last_used):
        if sum(sizes.values()) + own + needed <= bound and needed + spare <= free:
            break
        if time.time() - _last_used(old) > 600:  # not one that a run has just begun to use
            free += sizes.pop(old)
            _remove(old)
    if sum(sizes.values()) + own + needed > bound:
        raise NotKeptError(
            f"{settings.path} holds {_size(sum(sizes.values()))} of activations in use; "
            f"{_size(needed)} more are above the bound of {_size(bound)} (keep.max_gb)"
        )
    if needed + spare > free:
        raise NotKeptError(f"{_size(needed)} of kept activations do not fit: the disk has {_size(free)} left")
    for leftover in folder.glob(".*.part"):
        leftover.unlink(missing_ok=True)  # of a process that was killed: we hold the lock


def _remove(folder: Path) -> None:
    lock = filelock.FileLock(folder / _LOCK_FILE)
    try:
        with lock.acquire(timeout=0):
            (folder / _SET_FILE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    except filelock.Timeout:
        return


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".safetensors")


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
