"""Photos in another size inside the network: as Pillow makes them, whatever the sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bintally.learn.scales import resize_matrix, resized
from bintally.pixels import to_square


@given(st.integers(1, 96), st.integers(1, 96))
def test_rows_sum_to_one_and_nothing_is_taken_off(size: int, side: int) -> None:
    matrix = resize_matrix(size, side)
    assert matrix.shape == (side, size)
    assert matrix.dtype == np.float32
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-6)  # neither side is favoured


def test_the_same_size_is_the_same_photo() -> None:
    assert (resize_matrix(7, 7) == np.eye(7, dtype=np.float32)).all()


@settings(max_examples=25)
@given(st.integers(8, 80), st.integers(8, 80), st.integers(0, 99))
def test_photos_are_those_of_the_one_preprocessing_but_for_its_rounding(size: int, side: int, seed: int) -> None:
    photo = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    x_NCHW = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    mine = resized(x_NCHW, torch.from_numpy(resize_matrix(size, side)))[0].permute(1, 2, 0).numpy()
    assert np.abs(mine - to_square(photo, side)).max() <= 1.5  # Pillow rounds to whole grey values twice


@pytest.mark.parametrize("side", [5, 9])
def test_maps_keep_their_mean_when_they_are_even(side: int) -> None:
    maps = torch.full((2, 3, 7, 7), 0.25)
    out = resized(maps, torch.from_numpy(resize_matrix(7, side)))
    assert out.shape == (2, 3, side, side)
    torch.testing.assert_close(out.mean(), torch.tensor(0.25))
