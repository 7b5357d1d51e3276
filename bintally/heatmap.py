"""A heat map laid over its photo, for a person to see what a count rests on."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRENGTH = 0.6
"""How much of the hottest place is colour rather than photo."""

_COLOURS = np.array([[0, 0, 90], [120, 0, 160], [230, 40, 60], [255, 150, 0], [255, 240, 120]], dtype=np.float32)
"""Dark blue over red to yellow: rising in lightness, so that it reads without colour vision and in grey print."""


def overlay(rgb_HWC: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lays a heat map over a photo; where there is no heat the photo stays as it is.

    Args:
        rgb_HWC: uint8 photo (height, width, 3).
        heat: (h, w) of 0..1, over the same view; stretched to the photo's size.

    Returns:
        uint8 array of the photo's shape.
    """
    height, width = rgb_HWC.shape[:2]
    stretched = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    warmth = np.clip(np.asarray(stretched, dtype=np.float32), 0.0, 1.0)
    steps = np.linspace(0.0, 1.0, len(_COLOURS))
    colour = np.stack([np.interp(warmth, steps, _COLOURS[:, channel]) for channel in range(3)], axis=2)
    share = (STRENGTH * warmth)[:, :, None]
    mixed: NDArray[np.uint8] = np.rint(rgb_HWC * (1 - share) + colour * share).astype(np.uint8)
    return mixed


def overlay_png(rgb_HWC: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """The bytes of a PNG file of `overlay`."""
    out = io.BytesIO()
    Image.fromarray(overlay(rgb_HWC, heat)).save(out, "PNG")
    return out.getvalue()
