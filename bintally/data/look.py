"""What a picture looks like in two figures: how blurred it is, and a hash that near-duplicates almost share."""

from collections.abc import Sequence

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bintally.pixels import to_square

BLUR_SIDE = 224
"""Photos are brought to this side before blur is measured, so that figures of photos of any size compare."""

BLURRED_BELOW = 60.0
"""Photos with a lower measure count as blurred. On 8,000 real photos of 224 pixels (`abid-224`) the measure has two
humps with a valley from 40 to 75; by eye, at 30 all are blurred, at 70 most are sharp and merely hold little. 7.6 % of
them lie below."""

HASH_SIDE = 16
"""The hash keeps 16 × 16 bits: all bins look alike; the usual 64 cannot tell them apart (see `data.split`)."""


def blur_of(rgb_HWC: NDArray[np.uint8]) -> float:
    """How blurred a photo is: the variance of its Laplacian. The lower, the more blurred.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.

    Args:
        rgb_HWC: uint8 array of shape (height, width, 3).

    Returns:
        Variance over the inner pixels of the grey photo, squashed to `BLUR_SIDE` squared, in squared grey levels.
    """
    square = to_square(rgb_HWC, BLUR_SIDE)
    grey = np.asarray(Image.fromarray(square).convert("L"), dtype=np.int16)
    centre = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(edges.var(dtype=np.float64))


def look_of(rgb_HWC: NDArray[np.uint8]) -> str:
    """A perceptual hash (the sign of the photo's lowest cosines against their median) of 256 bits.

    Args:
        rgb_HWC: uint8 array of shape (height, width, 3).

    Returns:
        64 hexadecimal digits, for `look_distance`.
    """
    return str(imagehash.phash(Image.fromarray(rgb_HWC), hash_size=HASH_SIDE))


def look_distance(first: str, second: str) -> int:
    """How many of the 256 bits of two hashes differ: 0 for the same picture, about 124 for any two bins."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def look_words(looks: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes as words, uint64 of shape (n, 4), for `distances`."""
    return np.frombuffer(bytes.fromhex("".join(looks)), dtype=np.uint64).reshape(len(looks), -1)


def distances(words: NDArray[np.uint64], one: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """How many bits of each hash differ from those of `one`: (n, 4) and (4,) give (n,)."""
    different: NDArray[np.uint16] = np.bitwise_count(words ^ one).sum(axis=-1, dtype=np.uint16)
    return different
