"""What is printed on drawn things."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bintally.data.draw_print import barcode, mix, printed_side, scaled, soft_noise, spine, words
from bintally.data.draw_products import make_product


def test_noise_is_smooth_and_about_zero() -> None:
    noise = soft_noise(np.random.default_rng(0), 80, 50, 6)
    assert noise.shape == (50, 80)
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 0.5
    assert float(np.abs(np.diff(noise, axis=1)).max()) < float(np.ptp(noise)) / 4


def test_colours_are_mixed_and_scaled_within_their_range() -> None:
    assert mix((0, 100, 200), (100, 200, 0), 0.5) == (50, 150, 100)
    assert scaled((100, 200, 50), 2) == (200, 255, 100)


def test_a_barcode_has_dark_bars_on_white() -> None:
    picture = Image.new("RGB", (60, 40), (100, 100, 100))
    barcode(np.random.default_rng(0), ImageDraw.Draw(picture), (5, 5, 55, 35))
    row = np.asarray(picture.convert("L"))[14, 6:54].astype(int)
    assert (np.abs(np.diff(row)) > 100).sum() >= 10


def test_words_too_small_to_read_are_left_out() -> None:
    picture = Image.new("RGB", (60, 40))
    words(np.random.default_rng(0), ImageDraw.Draw(picture), (2, 2), 4, (255, 255, 255))
    assert not np.asarray(picture).any()
    words(np.random.default_rng(0), ImageDraw.Draw(picture), (2, 2), 14, (255, 255, 255))
    assert np.asarray(picture).any()


@pytest.mark.parametrize("number", range(0, 60, 4))
def test_printed_sides_have_the_size_asked_for(number: int) -> None:
    product = make_product(0, number)
    for size in ((50, 30), (9, 60), (4, 4)):
        assert printed_side(np.random.default_rng(number), product, *size).size == size
        assert spine(np.random.default_rng(number), product, *size).size == size
