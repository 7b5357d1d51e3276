"""The band measure, held against drawn bins whose bands are known, and against what only looks like bands."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bintally.data.bands import BAND_SIDE, band_map, bands_of
from bintally.data.draw_bin import Shot, make_shape, paint_front, paint_inside, take
from bintally.pixels import decode


def drawn(seed: int, bands: float) -> tuple[NDArray[np.uint8], float]:
    """A photo of an empty drawn bin, and the share of it that its bands cover."""
    luck = np.random.default_rng(seed)
    shape = make_shape(luck, 270.0, 3)
    inside, front = paint_inside(luck, shape), paint_front(luck, shape, bands)
    inside.paste(front.strands, mask=front.cover)
    inside.paste(front.frame, mask=front.frame.getchannel("A"))
    shot = Shot(
        size=(round(shape.width / 1.2), round(shape.height / 1.2)),
        box=(0, 0, shape.width, shape.height),
        blur=0.0,
        gain=(1.0, 1.0, 1.0),
        veil=(20.0, 18.0, 16.0),
        noise=1.5,
        quality=90,
    )
    return decode(take(luck, inside, shot)), float((np.asarray(front.cover) > 25).mean())


def test_it_follows_the_share_that_was_drawn() -> None:
    pairs = [drawn(seed, 1.0) for seed in range(24)]
    true, found = [share for _, share in pairs], [bands_of(photo) for photo, _ in pairs]
    assert np.corrcoef(true, found)[0, 1] > 0.75
    assert abs(np.mean(found) - np.mean(true)) < 0.12


def test_without_bands_next_to_nothing_is_found() -> None:
    without = [bands_of(drawn(seed, 0.0)[0]) for seed in range(8)]
    assert max(without) < 0.15
    assert np.mean(without) < 0.1


def test_the_map_lies_where_the_bands_are() -> None:
    photo = np.full((300, 400, 3), 120, dtype=np.uint8)
    photo[100:200:6] = 150  # strands over the middle third
    photo[101:200:6] = 150
    found = band_map(photo)
    assert found.shape == (BAND_SIDE, BAND_SIDE)
    assert found[90:135].mean() > 0.95
    assert not found[:50].any()
    assert not found[175:].any()


@pytest.mark.parametrize("what", ["one edge", "upright stripes", "noise"])
def test_what_only_looks_like_bands(what: str) -> None:
    photo = np.full((224, 224, 3), 100, dtype=np.uint8)
    if what == "one edge":
        photo[100:] = 200
    elif what == "upright stripes":
        photo[:, ::6] = 200
    else:
        photo = (photo + np.random.default_rng(0).normal(0, 4, photo.shape)).astype(np.uint8)
    assert bands_of(photo) < 0.05


def test_blur_hides_them() -> None:
    photo, _ = drawn(1, 1.0)
    small = Image.fromarray(photo).resize((40, 40)).resize((224, 224))
    assert bands_of(np.asarray(small)) < 0.05 < bands_of(photo)
