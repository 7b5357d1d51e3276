"""Photos in another size, inside the network: as two products of matrices, which every runtime computes alike."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def resize_matrix(size: int, side: int) -> NDArray[np.float32]:
    """(side, size): what each pixel of a row of `side` takes from a row of `size`.

    Bilinear with antialiasing, as `pixels.to_square` has it from Pillow: a triangle as wide as a pixel of the coarser row
    on either side, cut at the edges. Each row sums to 1.
    """
    step = size / side
    reach = max(step, 1.0)
    middles = (np.arange(side) + 0.5) * step
    away = (np.arange(size)[None] + 0.5 - middles[:, None]) / reach
    weights = np.maximum(0.0, 1 - np.abs(away))
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares.astype(np.float32)


def resized(x_NCHW: Tensor, matrix: Tensor) -> Tensor:
    """Square photos or maps (N, C, size, size) as (N, C, side, side), by a matrix (side, size) of `resize_matrix`."""
    return torch.matmul(torch.matmul(matrix, x_NCHW), matrix.T)
