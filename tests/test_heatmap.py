import io

import numpy as np
from PIL import Image

from bintally.heatmap import overlay, overlay_png


def test_the_photo_shows_where_there_is_no_heat_and_glows_where_there_is() -> None:
    photo = np.full((40, 60, 3), 128, dtype=np.uint8)
    heat = np.zeros((8, 8), dtype=np.float32)
    heat[:, 6:] = 1.0
    found = overlay(photo, heat)
    assert found.shape == photo.shape
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, :30], photo[:, :30])
    red, green, blue = found[20, 59]
    assert red > 190
    assert green > 180
    assert blue < 128


def test_without_heat_the_photo_is_untouched() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(photo, np.zeros((2, 2), dtype=np.float32)), photo)


def test_it_gets_hotter_all_the_way() -> None:
    photo = np.zeros((1, 101, 3), dtype=np.uint8)
    light = overlay(photo, np.linspace(0, 1, 101, dtype=np.float32)[None]).sum(axis=2)[0].astype(int)
    assert (np.diff(light) >= 0).all()
    assert light[-1] > 300


def test_a_png_of_the_photo_s_size() -> None:
    photo = np.zeros((30, 20, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(overlay_png(photo, np.ones((4, 4), dtype=np.float32)))) as image:
        assert image.format == "PNG"
        assert image.size == (20, 30)
