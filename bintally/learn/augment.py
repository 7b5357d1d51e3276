"""Changes to training photos that leave the count as it is; what a photo becomes depends on seed, epoch and place alone."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field

from bintally.pixels import IMAGENET_MEAN

Share = Annotated[float, Field(ge=0, le=1)]
Small = Annotated[float, Field(ge=0, lt=1)]

_GREY = tuple(round(255 * mean) for mean in IMAGENET_MEAN)
"""What fills the edges of a moved photo: about 0 after normalising."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How training photos are varied. All zeros leave them as they are.

    Bins have an up and a down, so that `upside_down` is off; a mirrored bin is a bin.

    Attributes:
        flip: probability that left and right are exchanged.
        upside_down: probability that up and down are.
        shift: how far a photo moves at most, as a share of its side, in each direction.
        scale: how much larger or smaller it gets at most; 0.1 is from 90 % to 110 %.
        brightness: how much is added at most, as a share of full white.
        contrast: by how much differences from mid-grey grow or shrink at most.
        colour: by how much each of red, green and blue is scaled at most.
        cutout: probability that a square of an eighth to a third of the side is greyed out.
        band: probability that a band of one colour is laid across, as the elastic bands of real bins are.
        mixup: how much photos of a batch are mixed, their losses likewise (Zhang et al. 2017,
            https://arxiv.org/abs/1710.09412): both parameters of the Beta distribution that a step's shares are drawn
            from; 0.2 mixes most photos a little, 1 all shares alike. The loop does it. Where "train.keep_activations"
            is "on", what is mixed is the activations.
    """

    flip: Share = 0.5
    upside_down: Share = 0.0
    shift: Small = 0.0
    scale: Small = 0.0
    brightness: Small = 0.0
    contrast: Small = 0.0
    colour: Small = 0.0
    cutout: Share = 0.0
    band: Share = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0


def augment(
    square_HWC: NDArray[np.uint8], settings: AugmentSettings, *, seed: int, epoch: int, index: int
) -> NDArray[np.uint8]:
    """One training photo, varied.

    Args:
        square_HWC: uint8 (size, size, 3); not changed.
        settings: how much.
        seed: the run's seed.
        epoch: from 0.
        index: the photo's place in the training part.

    Returns:
        uint8 (size, size, 3): the same for the same arguments, whatever came before.
    """
    # Every figure is drawn whether it is used or not, so that one setting does not move the others' luck.
    luck = np.random.default_rng((seed, epoch, index, 1)).random(20)
    if luck[0] < settings.flip:
        square_HWC = square_HWC[:, ::-1]
    if luck[1] < settings.upside_down:
        square_HWC = square_HWC[::-1]
    if settings.shift or settings.scale:
        square_HWC = _move(square_HWC, settings, luck[2:5])
    if settings.cutout or settings.band:
        square_HWC = _cover(square_HWC, settings, luck[5:14])
    if settings.brightness or settings.contrast or settings.colour:
        square_HWC = _tint(square_HWC, settings, luck[14:19])
    return np.ascontiguousarray(square_HWC)


def _move(square: NDArray[np.uint8], settings: AugmentSettings, luck: NDArray[np.float64]) -> NDArray[np.uint8]:
    side = square.shape[0]
    zoom = 1 + settings.scale * (2 * luck[0] - 1)
    # Pillow asks where each pixel comes from: x' = x / zoom + offset, about the middle.
    right, down = (
        side / 2 * (1 - 1 / zoom) - settings.shift * side * (2 * one - 1) / zoom for one in (luck[1], luck[2])
    )
    moved = Image.fromarray(np.ascontiguousarray(square)).transform(
        (side, side),
        Image.Transform.AFFINE,
        (1 / zoom, 0.0, right, 0.0, 1 / zoom, down),
        resample=Image.Resampling.BILINEAR,
        fillcolor=_GREY,
    )
    return np.asarray(moved, dtype=np.uint8)


def _cover(square: NDArray[np.uint8], settings: AugmentSettings, luck: NDArray[np.float64]) -> NDArray[np.uint8]:
    side = square.shape[0]
    image = Image.fromarray(np.ascontiguousarray(square))
    draw = ImageDraw.Draw(image)
    if luck[0] < settings.cutout:
        size = side * (1 / 8 + luck[1] * (1 / 3 - 1 / 8))
        left, top = luck[2] * (side - size), luck[3] * (side - size)
        draw.rectangle((left, top, left + size, top + size), fill=_GREY)
    if luck[4] < settings.band:
        # From one edge to the other at up to about 15 degrees, a thirtieth to a tenth of the side wide.
        width = side * (1 / 30 + luck[5] * (1 / 10 - 1 / 30))
        start = luck[6] * side
        end = start + (2 * luck[7] - 1) * side / 4
        grey = int(60 + 160 * luck[8])
        draw.line((-width, start, side + width, end), fill=(grey, grey, grey), width=max(1, round(width)))
    return np.asarray(image, dtype=np.uint8)


def _tint(square: NDArray[np.uint8], settings: AugmentSettings, luck: NDArray[np.float64]) -> NDArray[np.uint8]:
    shade = 255 * settings.brightness * (2 * luck[0] - 1)
    contrast = 1 + settings.contrast * (2 * luck[1] - 1)
    values = (np.arange(256) - 127.5) * contrast + 127.5 + shade
    gains = 1 + settings.colour * (2 * luck[2:5] - 1)
    tables = np.clip(np.rint(values * gains[:, None]), 0, 255).astype(np.uint8)  # (3, 256)
    out = np.empty_like(square)
    for channel in range(3):
        out[..., channel] = tables[channel][square[..., channel]]
    return out
