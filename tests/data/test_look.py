"""Blur and likeness must order pictures as an eye does."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bintally.data.look import blur_of, distances, look_distance, look_of, look_words


def picture(seed: int, side: int = 240) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    tiles = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return np.asarray(tiles.resize((side, side), Image.Resampling.NEAREST))


def changed(rgb: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    image = Image.fromarray(rgb)
    if kind == "blurred":
        return np.asarray(image.filter(ImageFilter.GaussianBlur(4)))
    if kind == "darker":
        return np.asarray(image.point(lambda v: v * 0.8))
    return np.asarray(image.resize((300, 220)))


def test_blur_falls_with_every_blur() -> None:
    sharp = picture(1)
    once = changed(sharp, "blurred")
    assert blur_of(sharp) > 10 * blur_of(once) > 10 * blur_of(changed(once, "blurred"))


def test_a_plain_picture_has_no_edges() -> None:
    assert blur_of(np.full((50, 60, 3), 77, dtype=np.uint8)) == 0


def test_the_full_range_does_not_overflow() -> None:
    board = (np.indices((224, 224)).sum(0) % 2 * 255).astype(np.uint8)
    assert blur_of(np.repeat(board[:, :, None], 3, axis=2)) == pytest.approx(1020**2, rel=0.01)


@pytest.mark.parametrize("kind", ["blurred", "darker", "resized"])
def test_a_changed_copy_is_near_and_another_picture_far(kind: str) -> None:
    one = look_of(picture(1))
    assert look_distance(one, look_of(changed(picture(1), kind))) < 40
    assert look_distance(one, look_of(picture(2))) > 90


def test_distances_are_those_of_pairs() -> None:
    looks = [look_of(picture(seed)) for seed in range(4)]
    table = look_words(looks)
    assert table.shape == (4, 4)
    assert distances(table, table[2]).tolist() == [look_distance(one, looks[2]) for one in looks]
