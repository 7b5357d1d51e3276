"""Augmentation: the same for the same photo and epoch, nothing when off, and each kind does what it says."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.learn.augment import AugmentSettings, augment

OFF = AugmentSettings(flip=0.0)
SQUARE = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
ALL = AugmentSettings(flip=0.5, shift=0.2, scale=0.2, brightness=0.3, contrast=0.3, colour=0.2, cutout=0.5, band=0.5)


def varied(settings: AugmentSettings, *, seed: int = 0, epoch: int = 0, index: int = 0) -> np.ndarray:
    return augment(SQUARE, settings, seed=seed, epoch=epoch, index=index)


def test_off_is_the_photo_itself() -> None:
    assert all((varied(OFF, index=index) == SQUARE).all() for index in range(20))


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(0, 10**6))
def test_the_same_arguments_give_the_same_photo(seed: int, epoch: int, index: int) -> None:
    before = SQUARE.copy()
    first = varied(ALL, seed=seed, epoch=epoch, index=index)
    assert (first == varied(ALL, seed=seed, epoch=epoch, index=index)).all()
    assert first.shape == SQUARE.shape
    assert first.dtype == np.uint8
    assert first.flags.c_contiguous
    assert (before == SQUARE).all()


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"index": 1}])
def test_seed_epoch_and_photo_each_matter(other: dict[str, int]) -> None:
    assert not (varied(ALL) == varied(ALL, **other)).all()


def test_flips() -> None:
    assert (varied(dataclasses.replace(OFF, flip=1.0)) == SQUARE[:, ::-1]).all()
    assert (varied(dataclasses.replace(OFF, upside_down=1.0)) == SQUARE[::-1]).all()
    half = [(varied(AugmentSettings(flip=0.5), index=i) == SQUARE).all() for i in range(200)]
    assert 70 < sum(map(bool, half)) < 130


def test_a_shift_moves_by_no_more_than_it_says() -> None:
    dot = np.zeros((40, 40, 3), dtype=np.uint8)
    dot[18:22, 18:22] = 255
    settings = dataclasses.replace(OFF, shift=0.25)
    places = []
    for index in range(60):
        bright = np.argwhere(augment(dot, settings, seed=0, epoch=0, index=index)[..., 0] > 200)
        places.append(bright.mean(axis=0) - 19.5)
    moved = np.abs(np.array(places))
    assert moved.max() <= 10.5
    assert moved.max() > 7
    assert (moved.mean(axis=0) > 2).all()  # both ways


def test_scale_grows_and_shrinks_about_the_middle() -> None:
    disc = np.zeros((60, 60, 3), dtype=np.uint8)
    disc[20:40, 20:40] = 255
    areas = []
    for index in range(40):
        bright = np.argwhere(
            augment(disc, dataclasses.replace(OFF, scale=0.3), seed=0, epoch=0, index=index)[..., 0] > 200
        )
        areas.append(len(bright) / 400)
        assert np.abs(bright.mean(axis=0) - 29.5).max() < 1
    assert 0.45 < min(areas) < 0.8
    assert 1.3 < max(areas) < 1.75


def test_light_and_colour_change_within_their_bounds() -> None:
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    bright = [
        augment(grey, dataclasses.replace(OFF, brightness=0.1), seed=0, epoch=e, index=0).mean() for e in range(50)
    ]
    assert 74 <= min(bright) < 85
    assert 115 < max(bright) <= 126
    coloured = augment(grey, dataclasses.replace(OFF, colour=0.3), seed=0, epoch=0, index=0).reshape(-1, 3)
    assert len(set(coloured[0].tolist())) > 1
    assert (coloured == coloured[0]).all()


@pytest.mark.parametrize("kind", ["cutout", "band"])
def test_covers_hide_a_part_and_leave_the_rest(kind: str) -> None:
    shares = []
    for index in range(30):
        shown = augment(SQUARE, dataclasses.replace(OFF, **{kind: 1.0}), seed=0, epoch=0, index=index)
        shares.append((shown != SQUARE).any(axis=2).mean())
    assert np.median(shares) > 0.01  # a band may leave the photo at its edge
    assert max(shares) < 0.25
