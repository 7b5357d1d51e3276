"""Training photos as batches: which photo comes when is a pure function of seed, epoch and step."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bintally.errors import RunError, UnreadablePhotoError
from bintally.learn.augment import AugmentSettings, augment
from bintally.learn.squares import Squares
from bintally.pixels import PixelSpec, normalise, read_square

Balance = Literal["none", "balanced", "sqrt"]
T = TypeVar("T")
W = TypeVar("W")


def sample_order(
    num: int,
    *,
    seed: int,
    epoch: int,
    weights: NDArray[np.float64] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """The order in which an epoch takes its photos.

    Args:
        num: how many photos there are.
        seed: the run's seed.
        epoch: from 0.
        weights: how likely each photo is to be drawn, (num,), when photos are drawn with replacement.
        groups: (num,) each photo's group, when photos of one group are to come one after the other; not with weights.

    Returns:
        (num,) indices: every photo once, or, with weights, `num` draws.
    """
    luck = np.random.default_rng((seed, epoch, 0))
    if weights is not None:
        return luck.choice(num, size=num, p=weights / weights.sum()).astype(np.int64)
    if groups is None:
        return luck.permutation(num)
    # A group's rank in the shuffle of all groups; within it the photos' own shuffle.
    ranks = luck.permutation(int(groups.max()) + 1)[groups]
    return np.lexsort((luck.permutation(num), ranks)).astype(np.int64)


def num_steps(num: int, batch_size: int) -> int:
    """Steps of an epoch. The remainder that fills no batch is left out; another one in every epoch."""
    return max(1, num // batch_size)


def class_factors(classes: NDArray[np.int64], num_classes: int, balance: Balance) -> NDArray[np.float64]:
    """What a photo of each class counts for, (num_classes,), so that the photos' mean is 1.

    Args:
        classes: (num,) class of each training photo.
        num_classes: how many classes there are; empty ones get 0.
        balance: "balanced": every class weighs the same; "sqrt": half the way there; "none": every photo does.
    """
    counts = np.bincount(classes, minlength=num_classes).astype(np.float64)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[balance]
    factors = np.where(counts > 0, np.maximum(counts, 1.0) ** -power, 0.0)
    scaled: NDArray[np.float64] = factors * (len(classes) / (factors * counts).sum())
    return scaled


class Photos:
    """The photos of one part as squares, each decoded once when all of them fit in memory, or on disk.

    Attributes:
        paths: their files.
        spec: the model's input.
    """

    def __init__(self, paths: Sequence[Path], spec: PixelSpec, *, cache_mb: int = 2048, workers: int = 0) -> None:
        self.paths = tuple(paths)
        self.spec = spec
        shape = (len(self.paths), spec.size, spec.size, 3)
        fits = int(np.prod(shape)) <= cache_mb << 20
        self._cache: NDArray[np.uint8] = np.empty(shape if fits else (0,), dtype=np.uint8)
        self._there = np.zeros(len(self.paths) if fits else 0, dtype=np.bool_)
        self._kept: Squares | None = None
        self._sha256s: tuple[str, ...] = ()
        self._pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8), thread_name_prefix="photos")

    def __len__(self) -> int:
        return len(self.paths)

    def keep_on_disk(self, squares: Squares, sha256s: Sequence[str]) -> None:
        """From now on squares that do not fit in memory are kept by these hashes of their files, and looked for there.

        Args:
            squares: of the same preprocessing.
            sha256s: one for each path, by the manifest.
        """
        if not self._there.size:
            self._kept, self._sha256s = squares, tuple(sha256s)

    @property
    def num_bytes(self) -> int:
        """How much memory the kept squares take, once all of them are there."""
        return self._cache.nbytes

    def square(self, index: int) -> NDArray[np.uint8]:
        """One photo, uint8 (size, size, 3); not to be changed.

        Raises:
            RunError: the file is gone or damaged since the manifest was made.
        """
        if self._there.size and self._there[index]:
            kept: NDArray[np.uint8] = self._cache[index]
            return kept
        if self._kept is not None and (found := self._kept.get(self._sha256s[index])) is not None:
            return found
        path = self.paths[index]
        try:
            data = path.read_bytes()
            square = read_square(data, self.spec)
        except OSError as error:
            raise RunError(
                f"cannot read {path}: {error.strerror}; fetch it again, or make the manifest again"
            ) from error
        except UnreadablePhotoError as error:
            raise RunError(f"{path}: {error}; it has changed since the manifest was made: make that again") from error
        if self._there.size:
            self._cache[index] = square
            self._there[index] = True
        if self._kept is not None and hashlib.sha256(data).hexdigest() == self._sha256s[index]:
            self._kept.put(self._sha256s[index], square)
        return square

    def batch(
        self, indices: Iterable[int], vary: Callable[[NDArray[np.uint8], int], NDArray[np.uint8]] | None = None
    ) -> NDArray[np.float32]:
        """Photos as model input, in this order.

        Args:
            indices: which ones.
            vary: changes a square, given its index; without it the result equals `pixels.read_input` to the bit.

        Returns:
            float32 (n, 3, size, size).
        """

        def one(index: int) -> NDArray[np.uint8]:
            square = self.square(index)
            return vary(square, index) if vary else square

        # Pillow works outside Python's lock: threads are enough.
        return normalise(np.stack(list(self._pool.map(one, [int(index) for index in indices]))), self.spec)

    def close(self) -> None:
        """Ends the threads and lets the memory go."""
        self._pool.shutdown(cancel_futures=True)
        self._cache, self._there = np.empty(0, dtype=np.uint8), np.zeros(0, dtype=np.bool_)


class Batches:
    """Training batches by epoch and step.

    Attributes:
        photos: the training part.
        classes: (num,) class of each.
        steps: how many steps an epoch has.
    """

    def __init__(
        self,
        photos: Photos,
        classes: NDArray[np.int64],
        augmentation: AugmentSettings,
        *,
        batch_size: int,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.photos, self.classes = photos, classes
        self.steps = num_steps(len(photos), batch_size)
        self._augmentation, self._size, self._seed, self._weights = augmentation, batch_size, seed, weights
        self._groups, self._rank, self._world = groups, rank, world

    def indices(self, epoch: int, step: int) -> NDArray[np.int64]:
        """Which photos this process takes at that step: its share of the batch that all of them take together."""
        order = sample_order(
            len(self.photos), seed=self._seed, epoch=epoch, weights=self._weights, groups=self._groups
        )
        batch = order[step * self._size : (step + 1) * self._size]
        if self._groups is None:
            return batch[self._rank :: self._world]
        share = self._size // self._world  # a piece of its own: photos of one group stay with one process
        return batch[self._rank * share : (self._rank + 1) * share]

    def batch(self, epoch: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Photos (n, 3, size, size), varied and normalised, and their classes (n,)."""
        indices = self.indices(epoch, step)

        def vary(square: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
            return augment(square, self._augmentation, seed=self._seed, epoch=epoch, index=index)

        return self.photos.batch(indices, vary), self.classes[indices]


def ahead(work: Callable[[W], T], items: Iterable[W], *, depth: int = 3) -> Iterator[T]:
    """The results of `work` in order, made by a thread of its own up to `depth` items ahead of who takes them."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        waiting: deque[Future[T]] = deque()
        try:
            for item in items:
                waiting.append(thread.submit(work, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
