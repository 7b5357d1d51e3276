"""The bin around its contents, and the camera."""

import io

import numpy as np
import pytest
from PIL import Image

from bintally.data.draw_bin import Shot, make_shape, paint_front, paint_inside, take
from bintally.pixels import decode


@pytest.mark.parametrize("seed", range(10))
def test_bands_and_frame_leave_most_of_the_bin_to_be_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = make_shape(rng, 200, 3)
    front = paint_front(rng, shape)
    assert front.free.shape == (shape.height, shape.width)
    assert 0.55 < front.free.mean() < 0.97
    cover = np.asarray(front.cover)
    banded = (cover > 30)[front.free].mean()
    assert 0.1 < banded < 0.97, "the bands hang before some of the contents, not before all"
    assert cover.max() <= 255 * 0.9


def test_bands_can_be_thinned_out() -> None:
    rng = np.random.default_rng(0)
    shape = make_shape(rng, 200, 3)
    full, half, none = (
        np.asarray(paint_front(np.random.default_rng(1), shape, bands).cover).astype(int) for bands in (1, 0.5, 0)
    )
    assert full.max() > 100
    assert not none.any()
    assert np.abs(half - full // 2).max() <= 1


def test_shapes_are_those_of_bins() -> None:
    rng = np.random.default_rng(0)
    shapes = [make_shape(rng, 400, 3) for _ in range(300)]
    aspects = np.array([shape.width / shape.height for shape in shapes])
    assert aspects.min() > 0.55
    assert aspects.max() < 1.75
    assert 1.1 < np.median(aspects) < 1.5
    for shape in shapes:
        assert 0 < shape.top < shape.hem < shape.floor < shape.height
        assert 0 <= shape.left < shape.right <= shape.width
    assert np.mean([make_shape(rng, 400, 12).per_inch for _ in range(40)]) < np.mean([one.per_inch for one in shapes])


def test_the_walls_are_yellow() -> None:
    rng = np.random.default_rng(0)
    red, green, blue = np.asarray(paint_inside(rng, make_shape(rng, 200, 0))).reshape(-1, 3).mean(axis=0)
    assert red > green > blue * 1.15


def shot(**changes: float) -> Shot:
    values = {"blur": 0.0, "noise": 0.0, "quality": 95} | changes
    return Shot(
        size=(64, 48),
        box=(0, 0, 128, 96),
        blur=values["blur"],
        gain=(1.0, 1.0, 1.0),
        veil=(0.0, 0.0, 0.0),
        noise=values["noise"],
        quality=int(values["quality"]),
    )


def test_the_camera_gives_a_jpeg_of_the_size_asked_for() -> None:
    rng = np.random.default_rng(0)
    canvas = Image.fromarray(rng.integers(0, 255, (96, 128, 3)).astype(np.uint8))
    data = take(rng, canvas, shot())
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    assert decode(data).shape == (48, 64, 3)


def test_blur_takes_detail_and_noise_adds_it() -> None:
    rng = np.random.default_rng(0)
    stripes = np.zeros((96, 128, 3), dtype=np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = 200
    sharp, blurred, noisy = (
        decode(take(rng, Image.fromarray(stripes), shot(**one))).astype(float)
        for one in ({}, {"blur": 4}, {"noise": 20})
    )
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.3 * np.abs(np.diff(sharp, axis=1)).mean()
    assert np.abs(np.diff(noisy, axis=0)).mean() > 3 * np.abs(np.diff(sharp, axis=0)).mean()
