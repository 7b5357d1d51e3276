"""Batches: a pure function of seed, epoch and step; equal to what serving sees; decoded once; ahead of who takes them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bintally.data.manifest import Manifest
from bintally.errors import RunError
from bintally.learn.augment import AugmentSettings
from bintally.learn.loader import Batches, Photos, ahead, class_factors, num_steps, sample_order
from bintally.pixels import PixelSpec, read_input

OFF = AugmentSettings(flip=0.0)


@pytest.fixture
def paths(make_manifest: Callable[..., Manifest]) -> list[Path]:
    manifest = make_manifest(num=12, side=50)
    return [manifest.path_of(row) for row in manifest.rows]


@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_an_order_takes_every_photo_once_and_is_the_same_each_time(num: int, seed: int, epoch: int) -> None:
    order = sample_order(num, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(num))
    assert (order == sample_order(num, seed=seed, epoch=epoch)).all()


def test_seeds_and_epochs_give_other_orders() -> None:
    orders = {tuple(sample_order(50, seed=s, epoch=e).tolist()) for s in range(3) for e in range(3)}
    assert len(orders) == 9


def test_weights_draw_rare_classes_as_often_as_common_ones() -> None:
    classes = np.array([0] * 90 + [1] * 10)
    weights = class_factors(classes, 3, "balanced")[classes]
    drawn = np.concatenate([classes[sample_order(100, seed=0, epoch=e, weights=weights)] for e in range(20)])
    assert 0.45 < drawn.mean() < 0.55


def test_class_factors_keep_the_mean_at_one() -> None:
    classes = np.array([0] * 16 + [1] * 4)
    for balance, ratio in (("none", 1.0), ("sqrt", 2.0), ("balanced", 4.0)):
        factors = class_factors(classes, 3, balance)
        assert factors[classes].mean() == pytest.approx(1)
        assert factors[1] / factors[0] == pytest.approx(ratio)
        assert factors[2] == 0


def test_steps_leave_the_remainder_out_but_never_everything() -> None:
    assert [num_steps(num, 8) for num in (1, 7, 8, 15, 16)] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("cache_mb", [0, 16])
def test_without_augmentation_training_sees_what_serving_sees_to_the_bit(paths: list[Path], cache_mb: int) -> None:
    spec = PixelSpec(size=32)
    photos = Photos(paths, spec, cache_mb=cache_mb)
    batches = Batches(photos, np.arange(12), OFF, batch_size=4, seed=5)
    for step in (2, 0, 2):
        x, classes = batches.batch(1, step)
        for one, index in zip(x, classes, strict=True):
            assert (one == read_input(paths[index].read_bytes(), spec)).all()
    photos.close()


def test_photos_are_read_once_when_they_fit(paths: list[Path]) -> None:
    kept, read = Photos(paths, PixelSpec(size=32)), Photos(paths, PixelSpec(size=32), cache_mb=0)
    first = kept.batch(range(12))
    assert (first == read.batch(range(12))).all()
    assert kept.num_bytes == 12 * 32 * 32 * 3
    assert read.num_bytes == 0
    for path in paths:
        path.unlink()
    assert (kept.batch(range(12)) == first).all()
    with pytest.raises(RunError, match=paths[3].name):
        read.batch([3])


def test_a_photo_that_was_damaged_is_named(paths: list[Path]) -> None:
    paths[2].write_bytes(b"no photo")
    with pytest.raises(RunError, match=rf"{paths[2].name}.*manifest"):
        Photos(paths, PixelSpec(size=32)).batch([1, 2])


def test_processes_share_a_batch_and_see_what_one_would(paths: list[Path]) -> None:
    photos = Photos(paths, PixelSpec(size=32))
    classes = np.arange(12)

    def batches(rank: int, world: int) -> Batches:
        return Batches(
            photos, classes, AugmentSettings(flip=0.5, shift=0.1), batch_size=6, seed=1, rank=rank, world=world
        )

    x, y = batches(0, 1).batch(0, 1)
    halves = [batches(rank, 2).batch(0, 1) for rank in (0, 1)]
    assert [len(half[1]) for half in halves] == [3, 3]
    for rank, (x_half, y_half) in enumerate(halves):
        assert (x_half == x[rank::2]).all()
        assert (y_half == y[rank::2]).all()


def test_a_step_is_the_same_whatever_came_before(paths: list[Path]) -> None:
    def batch(before: list[tuple[int, int]]) -> np.ndarray:
        batches = Batches(
            Photos(paths, PixelSpec(size=32)), np.arange(12), AugmentSettings(shift=0.2), batch_size=4, seed=1
        )
        for epoch, step in before:
            batches.batch(epoch, step)
        return batches.batch(3, 2)[0]

    assert (batch([]) == batch([(0, 0), (3, 1), (3, 0)])).all()


def test_ahead_keeps_the_order_and_works_before_it_is_asked() -> None:
    made: list[int] = []

    def work(item: int) -> int:
        made.append(item)
        return item * 10

    results = ahead(work, range(6), depth=2)
    assert next(results) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(made) >= 3
    assert len(made) <= 4
    assert list(results) == [10, 20, 30, 40, 50]


def test_ahead_hands_errors_on_and_leaves_no_thread() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise RunError("gone")
        return item

    taken = []
    with pytest.raises(RunError, match="gone"):
        taken.extend(ahead(work, range(5)))
    results = ahead(work, range(2))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("ahead")]


def test_photos_of_any_shape_become_squares(tmp_path: Path) -> None:
    Image.new("CMYK", (70, 20)).save(tmp_path / "a.jpg")
    Image.new("L", (20, 90)).save(tmp_path / "b.png")
    assert Photos([tmp_path / "a.jpg", tmp_path / "b.png"], PixelSpec(size=24)).batch([0, 1]).shape == (2, 3, 24, 24)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 5))
def test_photos_of_one_group_come_one_after_the_other_and_groups_are_shuffled(numbers: list[int], epoch: int) -> None:
    groups = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    order = sample_order(len(groups), seed=1, epoch=epoch, groups=groups)
    assert sorted(order.tolist()) == list(range(len(groups)))
    turns = 1 + int((np.diff(groups[order]) != 0).sum())
    assert turns == len(set(numbers))
    assert order.tolist() == sample_order(len(groups), seed=1, epoch=epoch, groups=groups).tolist()


def test_groups_come_in_another_order_in_every_epoch() -> None:
    groups = np.repeat(np.arange(20), 2)
    orders = {tuple(sample_order(40, seed=0, epoch=epoch, groups=groups).tolist()) for epoch in range(4)}
    assert len(orders) == 4


def test_processes_share_a_batch_of_groups_in_pieces(tmp_path: Path) -> None:
    photos = Photos([tmp_path / f"{n}.jpg" for n in range(16)], PixelSpec(size=8))
    groups = np.repeat(np.arange(4), 4)
    order: dict[str, Any] = {"batch_size": 8, "seed": 0, "groups": groups}
    classes = np.zeros(16, dtype=np.int64)
    whole = Batches(photos, classes, AugmentSettings(), **order)
    for step in range(2):
        pieces = [
            Batches(photos, classes, AugmentSettings(), **order, rank=rank, world=2).indices(0, step)
            for rank in range(2)
        ]
        assert np.concatenate(pieces).tolist() == whole.indices(0, step).tolist()
        assert all(len(set(groups[piece].tolist())) == 1 for piece in pieces)
    photos.close()
