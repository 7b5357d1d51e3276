"""Bytes to a checked RGB array to model input: the one preprocessing of training, checks and serving.

Photos are untrusted bytes. What they claim to be is read from the header and checked before anything is decoded.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bintally.errors import UnreadablePhotoError

FORMATS = ("JPEG", "PNG")
"""What is taken: JPEG (with it MPO, a camera's JPEG with a second picture behind it: Pillow opens it as a JPEG and
has no opener of that name) and PNG."""

MAX_PIXELS = 40_000_000
"""Photos that claim more pixels are refused before they are decoded. Bin photos have about 0.2 million."""

Fit = Literal["squash", "pad"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per-channel statistics that ImageNet backbones were trained with (torchvision's reference training)."""


# Pillow warns of what is checked here itself (bombs) and of damage in EXIF fields that are not used.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSpec:
    """What a model's input looks like. Stands on the model's card.

    Attributes:
        size: height and width of the square input in pixels.
        fit: how a photo becomes a square. "squash": its aspect is given up, as in the public subset; "pad": it is kept,
            and the mean colour fills what is left above and below, or at the sides.
        mean: per channel R, G, B, subtracted from values scaled to 0..1.
        std: per channel R, G, B, divided by.
    """

    size: int = 224
    fit: Fit = "squash"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"an input of {self.size} pixels is no input")
        if min(self.std) <= 0:
            raise ValueError(f"standard deviations are above 0: {self.std}")


def decode(data: bytes, *, at_least: int | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes a photo to RGB, upright as its EXIF orientation says.

    Args:
        data: the bytes of a JPEG or PNG file; greyscale, CMYK, palette and 16-bit ones become 8-bit RGB.
        at_least: when given, a JPEG is decoded at an eighth, quarter or half of its size, as long as neither side falls
            below this many pixels. Several times faster for large photos.
        max_pixels: refuse photos that claim more, before decoding.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        UnreadablePhotoError: the bytes are no whole photo of a known format and sensible size.
    """
    if not data:
        raise UnreadablePhotoError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decode(image, data, at_least, max_pixels)
    except UnreadablePhotoError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadablePhotoError("not a JPEG or PNG photo") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePhotoError(f"claims more than {max_pixels:,} pixels: refused undecoded") from error
    except Exception as error:
        # Decoders meet damaged bytes with errors of many kinds (OSError, SyntaxError, ValueError, struct.error,
        # IndexError, zlib.error ...). For the caller they are all the same: this photo cannot be read.
        raise UnreadablePhotoError(f"damaged: {str(error) or type(error).__name__}") from error


def _decode(image: Image.Image, data: bytes, at_least: int | None, max_pixels: int) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadablePhotoError(f"claims {width}×{height} pixels, more than {max_pixels:,}: refused undecoded")
    if image.format in {"JPEG", "MPO"} and image.mode in {"RGB", "L"}:
        quick = _turbo(data, at_least)
        if quick is not None:
            return _upright(quick, image.getexif().get(_ORIENTATION, 1))
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":  # 16-bit greyscale: PNG only
        deep = np.asarray(upright, dtype=np.float64)
        grey = np.clip(np.rint(deep / 257.0), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
        # What shows through is nothing; on white, as an image viewer shows it.
        clear = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return np.asarray(upright.convert("RGB"), dtype=np.uint8)


def _turbo(data: bytes, at_least: int | None) -> NDArray[np.uint8] | None:
    """The same decoder that Pillow has inside, to the bit, with less around it."""
    side = at_least or 0
    try:
        # Halves only: at seven or five eighths it would be quicker still, but every photo would change, by more than
        # a fresh JPEG at quality 95 changes it (1.8 grey levels on average against 1.3; halves 0.3).
        rgb: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side, min_factor=2)
    except ValueError:
        return None  # it refuses the slightest damage: Pillow knows what is slight, and words what is not
    return rgb


def _upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    # As ImageOps.exif_transpose does; 1 and what is no orientation leave the photo as it is.
    if orientation in {5, 6, 7, 8}:
        rgb = rgb.transpose(1, 0, 2)
    if orientation in {2, 3, 6, 7}:
        rgb = rgb[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)


_ORIENTATION = 0x0112  # the EXIF field's number


def to_square(rgb_HWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes to `size` × `size`, aspect squashed; bilinear with antialiasing (Pillow's, in 8 bits).

    Args:
        rgb_HWC: uint8 array of shape (height, width, 3).
        size: side of the result in pixels.

    Returns:
        uint8 array of shape (size, size, 3); the very array when it has that shape already.
    """
    if rgb_HWC.shape[:2] == (size, size):
        return rgb_HWC
    resized = Image.fromarray(rgb_HWC).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def to_input(rgb_HWC: NDArray[np.uint8], spec: PixelSpec) -> NDArray[np.uint8]:
    """A photo of any size as the model's square: squashed or padded, as `spec.fit` says.

    Args:
        rgb_HWC: uint8 array of shape (height, width, 3).
        spec: the model's input.

    Returns:
        uint8 array of shape (size, size, 3); the very array when it has that shape already.
    """
    height, width = rgb_HWC.shape[:2]
    if spec.fit == "squash" or height == width:
        return to_square(rgb_HWC, spec.size)
    left, top, right, bottom = photo_box(width, height, spec)
    resized = Image.fromarray(rgb_HWC).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    grey = [round(255 * mean) for mean in spec.mean]  # about 0 after `normalise`
    square = np.empty((spec.size, spec.size, 3), dtype=np.uint8)
    square[...] = grey
    square[top:bottom, left:right] = np.asarray(resized, dtype=np.uint8)
    return square


def photo_box(width: int, height: int, spec: PixelSpec) -> tuple[int, int, int, int]:
    """Where in the model's square a photo of that size lies: left, top, right, bottom in pixels."""
    size, longer = spec.size, max(width, height)
    if spec.fit == "squash":
        return 0, 0, size, size
    wide, high = (max(1, round(size * side / longer)) for side in (width, height))
    left, top = (size - wide) // 2, (size - high) // 2
    return left, top, left + wide, top + high


def normalise(rgb_NHWC: NDArray[np.uint8], spec: PixelSpec) -> NDArray[np.float32]:
    """Scales to 0..1, subtracts the mean, divides by the standard deviation, puts channels first.

    Args:
        rgb_NHWC: uint8 array of shape (n, size, size, 3).
        spec: the statistics.

    Returns:
        float32 array of shape (n, 3, size, size), contiguous.
    """
    std = np.asarray(spec.std, dtype=np.float32)
    scale = np.float32(1 / 255) / std
    shift = -np.asarray(spec.mean, dtype=np.float32) / std
    out = np.empty((rgb_NHWC.shape[0], 3, *rgb_NHWC.shape[1:3]), dtype=np.float32)
    for channel in range(3):
        np.multiply(rgb_NHWC[..., channel], scale[channel], out=out[:, channel])
        out[:, channel] += shift[channel]
    return out


def read_square(data: bytes, spec: PixelSpec | int, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Bytes to the model's square: decode (never below its size), upright, resized. uint8 (size, size, 3).

    Args:
        data: the bytes of a JPEG or PNG file.
        spec: the model's input; a number alone is a squashed square of so many pixels.
        max_pixels: see `decode`.

    Raises:
        UnreadablePhotoError: see `decode`.
    """
    spec = PixelSpec(size=spec) if isinstance(spec, int) else spec
    return to_input(decode(data, at_least=spec.size, max_pixels=max_pixels), spec)


def read_input(data: bytes, spec: PixelSpec, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Bytes to model input: `read_square`, then `normalise`. float32 (3, size, size).

    Raises:
        UnreadablePhotoError: see `decode`.
    """
    result: NDArray[np.float32] = normalise(read_square(data, spec, max_pixels=max_pixels)[None], spec)[0]
    return result
