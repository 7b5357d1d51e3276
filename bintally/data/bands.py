"""How much of a bin's photo lies behind elastic bands, told by what they look like: thin level lines, one above another."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bintally.pixels import to_square

BAND_SIDE = 224
"""Photos are brought to this side first: on real photos the strands then lie three to seven pixels apart."""

LENGTH = 15
"""A strand is level for at least so many pixels: grey values are averaged along it, which print and fabric do not survive."""

PITCH = 9
"""Rows of the running mean that is taken off: what is coarser than strands (boxes, shadows, hems) goes with it."""

STRENGTH = 2.0
"""Grey levels that a strand stands out by above what lies over and under it, at the least."""

WINDOW = 21
"""Rows that are judged together; a band has three strands in them or more, a box's edge is one line."""

STRANDS = 2.5
"""Strands in a window, on average along `LENGTH` columns, from which a place counts as band."""


def band_map(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a photo shows elastic bands.

    Bands are the one thing in a bin that is made of many thin, nearly level lines, evenly one above another. Grey
    values are averaged along rows, the coarse part is taken off along columns, and a place counts as band where enough
    bright lines are left one above another. A box's edge is one line; print does not survive the averaging. By eye on
    32 real photos it marks the bands; it misses strands before something as light as they are and those of a blurred
    photo, and takes stripes that are printed level (a checked cloth, a striped carton, a bin's label) for strands.

    Args:
        rgb_HWC: uint8 array of shape (height, width, 3).

    Returns:
        bool array (`BAND_SIDE`, `BAND_SIDE`), over the photo squashed to that square.
    """
    square = to_square(rgb_HWC, BAND_SIDE)
    grey = np.asarray(Image.fromarray(square).convert("L"), dtype=np.float64)
    level = _mean(grey, LENGTH, axis=1)
    lines = level - _mean(level, PITCH, axis=0)
    strand = np.zeros_like(lines)
    middle = lines[1:-1]
    strand[1:-1] = (middle > STRENGTH) & (middle >= lines[:-2]) & (middle > lines[2:])
    number = WINDOW * _mean(_mean(strand, WINDOW, axis=0), LENGTH, axis=1)
    found: NDArray[np.bool_] = number >= STRANDS - 1e-9
    return found


def bands_of(rgb_HWC: NDArray[np.uint8]) -> float:
    """Share of a photo that shows elastic bands, 0..1; see `band_map`."""
    return float(band_map(rgb_HWC).mean())


def _mean(values: NDArray[np.float64], size: int, *, axis: int) -> NDArray[np.float64]:
    """The running mean of `size` (odd) along an axis; the edge's values are repeated beyond it."""
    around = [(0, 0), (0, 0)]
    around[axis] = (size // 2 + 1, size // 2)
    sums = np.pad(values, around, mode="edge").cumsum(axis=axis)
    far = np.moveaxis(sums, axis, 0)
    means: NDArray[np.float64] = np.moveaxis(far[size:] - far[:-size], 0, axis) / size
    return means
