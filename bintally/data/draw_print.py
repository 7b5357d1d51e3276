"""What is printed on the things in a drawn bin: words, small print, pictures, barcodes, the backs of books."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bintally.data.draw_products import Colour, Product

_WORDS: tuple[str, ...] = (
    "NEW",
    "PRO",
    "24",
    "ULTRA",
    "KIT",
    "SOFT",
    "CLEAN",
    "FRESH",
    "MAX",
    "HOME",
    "LIGHT",
    "TOOLS",
    "BABY",
    "GO",
)
_WORDS += ("CARE", "FILTER", "GREEN", "POWER", "PLAY", "LIVE", "STORY", "GUIDE", "MADE IN", "XL")


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels; needs no font file."""
    return ImageFont.load_default(size)


def soft_noise(rng: np.random.Generator, width: int, height: int, cells: int) -> NDArray[np.float32]:
    """Smooth noise about 0, mostly within ±1: a (height, width) float32 array with about `cells` bumps a side."""
    wide = max(2, cells if width <= height else round(cells * width / height))
    high = max(2, cells if height <= width else round(cells * height / width))
    small = Image.fromarray(rng.standard_normal((high, wide)).astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """The colour that lies `share` of the way from one to the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def scaled(colour: Colour, by: float) -> Colour:
    """The colour brighter or darker by a factor, no brighter than white."""
    red, green, blue = (min(255, round(value * by)) for value in colour)
    return red, green, blue


def barcode(rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    """A white sticker with bars and a line or two of small print."""
    left, top, right, bottom = box
    draw.rectangle(box, fill=(212, 206, 198))
    wide, high = right - left, bottom - top
    x = left + 0.1 * wide
    while x < right - 0.1 * wide:
        bar = wide * (0.02, 0.035, 0.06)[int(rng.integers(3))]
        draw.rectangle((x, top + 0.14 * high, x + bar * 0.6, top + 0.62 * high), fill=(34, 32, 32))
        x += bar + wide * 0.025
    for line in (0.72, 0.86):
        length = float(rng.uniform(0.4, 0.8))
        draw.line(
            (left + 0.1 * wide, top + line * high, left + length * wide, top + line * high),
            fill=(70, 66, 66),
            width=max(1, round(high * 0.06)),
        )


def words(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, place: tuple[float, float], height: float, ink: Colour
) -> None:
    """A word in letters about `height` pixels high; nothing where they would be too small to be letters."""
    size = round(height)
    if size >= 5:
        draw.text(place, _WORDS[int(rng.integers(len(_WORDS)))], fill=ink, font=font(size), stroke_width=size // 16)


def lines(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    ink: Colour,
    count: int,
) -> None:
    """Print too small to read."""
    left, top, right, bottom = box
    step = (bottom - top) / max(count, 1)
    for number in range(count):
        y = top + step * (number + 0.5)
        end = left + (right - left) * float(rng.uniform(0.5, 1.0))
        draw.line((left, y, end, y), fill=ink, width=max(1, round(step * 0.4)))


def printed(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """A printed side: ground, blocks, stripes, a picture, words, small print, a barcode."""
    main, second, ink = product.colours
    block = mix(main, second, 0.6)
    face = Image.new("RGB", (width, height), main)
    draw = ImageDraw.Draw(face)
    if product.kind == "carton":
        if rng.random() < 0.6:
            y = height * float(rng.uniform(0.42, 0.55))
            draw.rectangle((0, y, width, y + height * 0.1), fill=mix(main, (226, 206, 176), 0.35))
        if rng.random() < 0.5:
            words(rng, draw, (width * 0.1, height * 0.6), min(height * 0.26, width * 0.16), scaled(main, 0.5))
    else:
        style = int(rng.integers(5))
        if style == 0:
            at = float(rng.uniform(0.25, 0.75))
            draw.rectangle((0, height * at, width, height), fill=block)
        elif style == 1:
            at = float(rng.uniform(0.2, 0.5))
            draw.rectangle((0, 0, width * at, height), fill=block)
        elif style == 2:
            step = max(width, height) / float(rng.integers(4, 9))
            for number in range(-6, 20, 2):
                x = number * step
                draw.polygon(
                    ((x, 0), (x + step, 0), (x + step - height * 0.5, height), (x - height * 0.5, height)),
                    fill=mix(main, second, 0.5),
                )
        elif style == 3:
            size = min(width, height) * float(rng.uniform(0.3, 0.45))
            x, y = width * float(rng.uniform(0.3, 0.7)), height * float(rng.uniform(0.35, 0.65))
            draw.ellipse((x - size, y - size, x + size, y + size), fill=second)
        if rng.random() < 0.4 and min(width, height) > 14:
            _photo(rng, face, second)
        words(
            rng,
            draw,
            (width * float(rng.uniform(0.05, 0.2)), height * float(rng.uniform(0.06, 0.4))),
            min(height * 0.32, width * 0.26) * float(rng.uniform(0.25, 0.8)),
            ink,
        )
        if rng.random() < 0.6:
            lines(rng, draw, (width * 0.1, height * 0.7, width * 0.55, height * 0.94), ink, int(rng.integers(2, 5)))
    if rng.random() < (0.85 if product.kind == "carton" else 0.4) and width > 12:
        wide = min(width * 0.42, height * 0.8)
        x, y = float(rng.uniform(0.05, 0.9)) * (width - wide), float(rng.uniform(0.1, 0.9)) * (height - wide * 0.5)
        barcode(rng, draw, (x, y, x + wide, y + wide * 0.5))
    return face


def printed_side(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """A printed side that lies on its side or upside down as often as not: nobody sorts it by its print."""
    turn = int(rng.integers(6))
    if turn == 0:
        return printed(rng, product, width, height).transpose(Image.Transpose.ROTATE_180)
    if turn in (1, 2):
        side = Image.Transpose.ROTATE_90 if turn == 1 else Image.Transpose.ROTATE_270
        return printed(rng, product, height, width).transpose(side)
    return printed(rng, product, width, height)


def _photo(rng: np.random.Generator, face: Image.Image, tint: Colour) -> None:
    """A picture of something: coloured blobs."""
    width, height = round(face.width * 0.45), round(face.height * 0.45)
    small = np.clip(rng.integers(20, 220, (4, 4, 1)) + rng.integers(-30, 30, (4, 4, 3)), 0, 255).astype(np.uint8)
    blobs = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    blobs = Image.blend(blobs, Image.new("RGB", blobs.size, tint), 0.45)
    face.paste(blobs, (round(face.width * rng.uniform(0.05, 0.5)), round(face.height * rng.uniform(0.05, 0.5))))


def spine(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """The back of a book or case, painted lying and then turned."""
    main, second, ink = product.colours
    long, thick = max(width, height), min(width, height)
    back = Image.new("RGB", (long, thick), main)
    draw = ImageDraw.Draw(back)
    for at in (rng.uniform(0.02, 0.1), rng.uniform(0.8, 0.9)):
        draw.rectangle((long * at, 0, long * (at + rng.uniform(0.03, 0.14)), thick), fill=second)
    words(rng, draw, (long * 0.2, thick * 0.1), thick * 0.7, ink)
    words(rng, draw, (long * 0.52, thick * 0.2), thick * 0.5, ink)
    pages = product.kind == "book" and rng.random() < 0.35
    if pages:  # the side with the pages faces the camera
        back.paste((206, 196, 178), (0, round(thick * 0.12), long, round(thick * 0.88)))
        lines(rng, draw, (0, thick * 0.15, long * 1.6, thick * 0.85), (176, 166, 148), 3)
    return back.transpose(Image.Transpose.ROTATE_270) if height > width else back
