"""How each kind of thing in a drawn bin looks from each of its sides: pictures with an alpha channel."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bintally.data.draw_print import barcode, lines, mix, printed, printed_side, scaled, soft_noise, spine, words
from bintally.data.draw_products import Kind, Product

Pose = Literal["face", "upright", "lying", "edge", "flat", "end"]

# The poses that a kind of thing is found in, most common first by weight.
POSES: dict[Kind, dict[Pose, float]] = {
    "box": {"lying": 0.4, "face": 0.25, "upright": 0.35},
    "carton": {"lying": 0.5, "face": 0.25, "upright": 0.25},
    "book": {"edge": 0.5, "flat": 0.3, "upright": 0.2},
    "case": {"edge": 0.5, "flat": 0.3, "upright": 0.2},
    "bag": {"face": 0.4, "lying": 0.35, "upright": 0.25},
    "clear": {"face": 0.4, "lying": 0.35, "upright": 0.25},
    "bottle": {"upright": 0.65, "flat": 0.25, "end": 0.1},
    "jar": {"upright": 0.8, "end": 0.2},
    "tube": {"flat": 0.75, "end": 0.25},
    "card": {"upright": 0.7, "face": 0.2, "edge": 0.1},
}
SOFT = frozenset({"bag", "clear"})
"""Kinds that sag over what lies below them."""

ROLLING = frozenset({"bottle", "jar", "tube"})


def face_in(product: Product, pose: Pose) -> tuple[float, float]:
    """Width and height in inches of the side that a product shows in a pose."""
    long, middle, short = product.size_in
    if product.kind in ROLLING:
        return {"upright": (middle, long), "flat": (long, middle)}.get(pose, (middle, middle))
    if product.kind in SOFT:
        thick = max(short, 0.35 * middle)
        return {"lying": (long, thick), "upright": (middle, long)}.get(pose, (long, middle))
    sides = {
        "face": (long, middle),
        "upright": (middle, long),
        "lying": (long, short),
        "edge": (short, long),
        "flat": (long, short),
    }
    return sides.get(pose, (middle, short))


def paint(product: Product, pose: Pose, width: int, height: int) -> Image.Image:
    """Paints the side of a product that a pose shows.

    Args:
        product: what to paint; the same product looks the same each time.
        pose: which side.
        width: of that side in pixels; the picture is a little wider when a second side shows.
        height: likewise.

    Returns:
        An RGBA picture.
    """
    width, height = max(width, 3), max(height, 3)
    rng = np.random.default_rng([product.look_seed, _ALL_POSES.index(pose)])
    if product.kind in SOFT:
        return _bag(rng, product, width, height)
    if product.kind in ROLLING:
        if pose == "end":
            return _round_end(rng, product, width, height)
        standing = _bottle(rng, product, *((height, width) if pose == "flat" else (width, height)))
        return standing.transpose(Image.Transpose.ROTATE_90) if pose == "flat" else standing
    if product.kind == "card":
        return _card(rng, product, width, height)
    return _solid(rng, product, pose, width, height)


_ALL_POSES: tuple[Pose, ...] = ("face", "upright", "lying", "edge", "flat", "end")


def _shade(picture: Image.Image, factor: NDArray[np.float32], add: NDArray[np.float32] | None = None) -> Image.Image:
    values = np.asarray(picture.convert("RGB"), dtype=np.float32) * factor[..., None]
    if add is not None:
        values = values + add[..., None]
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _solid(rng: np.random.Generator, product: Product, pose: Pose, width: int, height: int) -> Image.Image:
    """A box or book: the front, and a sliver of the top and of one side."""
    front = (
        spine(rng, product, width, height) if pose in ("edge", "flat") else printed_side(rng, product, width, height)
    )
    sheen = np.linspace(1.06, 0.88, height, dtype=np.float32)[:, None] * np.ones((1, width), dtype=np.float32)
    front = _shade(front, sheen * (1 + 0.05 * soft_noise(rng, width, height, 3)))
    edge = ImageDraw.Draw(front)
    main = product.colours[0]
    edge.rectangle((0, 0, width - 1, height - 1), outline=scaled(main, 0.66))
    over = max(1, round(min(0.07 * height + 1, 0.16 * width)))
    beside = max(1, round(0.05 * width)) if pose != "edge" else 1
    left = bool(rng.random() < 0.5)
    whole = Image.new("RGBA", (width + beside, height + over))
    draw = ImageDraw.Draw(whole)
    x = beside if left else 0
    top = (x, over), (x + width, over), (width if left else x + width + beside, 0), (0 if left else x + beside, 0)
    draw.polygon(top, fill=(*scaled(main, 1.2), 255), outline=(*scaled(main, 0.8), 255))
    if left:
        side = (0, 0), (beside, over), (beside, over + height), (0, height)
    else:
        side = (width, over), (width + beside, 0), (width + beside, height), (width, over + height)
    draw.polygon(side, fill=(*scaled(main, 0.6), 255))
    whole.paste(front, (x, over))
    return whole


def _blob(rng: np.random.Generator, width: int, height: int, rough: float) -> list[tuple[float, float]]:
    """The outline of a full bag: a rounded rectangle that has been lived in."""
    points = []
    bumps = rng.normal(0, rough, 28)
    for number, bump in enumerate(bumps):
        angle = 2 * math.pi * number / len(bumps)
        cosine, sine = math.cos(angle), math.sin(angle)
        reach = 1 / max(abs(cosine), abs(sine)) ** 0.72 * (0.96 + bump)
        points.append((width * (0.5 + 0.47 * cosine * reach), height * (0.5 + 0.47 * sine * reach)))
    return points


def _bag(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """A poly bag with creases and glare; a clear one shows what is in it."""
    main, second, ink = product.colours
    clear = product.kind == "clear"
    alpha = Image.new("L", (width, height))
    outline = ImageDraw.Draw(alpha)
    outline.polygon(_blob(rng, width, height, 0.05), fill=190 if clear else 255)
    ground = Image.new("RGB", (width, height), mix(main, (140, 136, 132), 0.35) if clear else main)
    draw = ImageDraw.Draw(ground)
    if clear:
        inner = [(0.08 * width + 0.84 * x, 0.1 * height + 0.84 * y) for x, y in _blob(rng, width, height, 0.06)]
        draw.polygon(inner, fill=main)
        outline.polygon(inner, fill=255)
        spots = int(rng.integers(0, 5))
        for _ in range(spots):
            x, y = width * float(rng.uniform(0.15, 0.7)), height * float(rng.uniform(0.15, 0.7))
            wide, high = width * float(rng.uniform(0.1, 0.3)), height * float(rng.uniform(0.1, 0.3))
            draw.ellipse((x, y, x + wide, y + high), fill=second)
    elif rng.random() < 0.4:
        words(rng, draw, (width * 0.2, height * 0.3), min(height * 0.3, width * 0.2), ink)
    if rng.random() < 0.7 and width > 12:
        wide = width * float(rng.uniform(0.22, 0.36))
        x, y = float(rng.uniform(0.2, 0.55)) * width, float(rng.uniform(0.25, 0.6)) * height
        barcode(rng, draw, (x, y, x + wide, y + wide * 0.45))
    for _ in range(int(rng.integers(4, 10)) if clear else 3):  # the film's folds shine
        x, y = width * float(rng.uniform(0.05, 0.9)), height * float(rng.uniform(0.05, 0.9))
        fold = [(x, y)]
        for _ in range(int(rng.integers(2, 5))):
            x, y = x + width * float(rng.normal(0, 0.1)), y + height * float(rng.normal(0, 0.1))
            fold.append((x, y))
        draw.line(fold, fill=mix(main, (238, 234, 228), float(rng.uniform(0.3, 1.0))), width=max(1, width // 60))
    creases = soft_noise(rng, width, height, 4)
    fine = soft_noise(rng, width, height, 9)
    ridge = np.maximum(0, 1 - 5 * np.abs(fine)) * (creases > -0.3)
    light = 1 + 0.16 * creases + 0.1 * fine
    light *= np.linspace(1.1, 0.8, height, dtype=np.float32)[:, None]
    glare = ridge * (80 if clear else 30) + (120 if clear else 50) * np.maximum(0, fine * creases - 0.8)
    bag = _shade(ground, light.astype(np.float32), glare.astype(np.float32))
    bag.putalpha(alpha)
    return bag


def _tube_light(width: int) -> NDArray[np.float32]:
    across = np.linspace(-1, 1, width, dtype=np.float32)
    light: NDArray[np.float32] = 0.5 + 0.6 * np.sqrt(np.maximum(0, 1 - (across * 0.96 + 0.15) ** 2)).astype(
        np.float32
    )
    return light


def _bottle(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """A standing bottle, jar or tube: shaded round, with a cap and a label."""
    main, second, ink = product.colours
    body = Image.new("RGB", (width, height), main)
    draw = ImageDraw.Draw(body)
    neck = height * {"bottle": 0.16, "jar": 0.14, "tube": 0.0}[product.kind]
    top, bottom = height * float(rng.uniform(0.3, 0.4)), height * float(rng.uniform(0.8, 0.92))
    draw.rectangle((0, top, width, bottom), fill=second)
    words(rng, draw, (width * 0.1, top + (bottom - top) * 0.12), min((bottom - top) * 0.35, width * 0.3), ink)
    lines(rng, draw, (width * 0.15, top + (bottom - top) * 0.55, width * 0.9, bottom * 0.98), ink, 3)
    if neck:
        cap = mix(second, (236, 232, 226), 0.6) if rng.random() < 0.6 else (40, 38, 40)
        draw.rectangle((0, 0, width, neck), fill=cap)
        for x in range(0, width, max(3, width // 9)):
            draw.line((x, neck * 0.25, x, neck), fill=scaled(cap, 0.85))
        draw.line((0, neck, width, neck), fill=scaled(main, 0.5), width=max(1, height // 60))
    body = _shade(body, np.repeat(_tube_light(width)[None], height, axis=0))
    alpha = Image.new("L", (width, height))
    shape = ImageDraw.Draw(alpha)
    inset = width * (float(rng.uniform(0.16, 0.3)) if product.kind == "bottle" else 0.04)
    round_by = min(width * 0.25, height * 0.1)
    shape.rounded_rectangle((0, neck * 1.05, width - 1, height - 1), radius=round_by, fill=255)
    if neck:
        shape.rounded_rectangle((inset, 0, width - 1 - inset, neck + round_by), radius=round_by * 0.4, fill=255)
    body.putalpha(alpha)
    return body


def _round_end(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """A bottle, jar or tube that points at the camera."""
    main, second, ink = product.colours
    end = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(end)
    lid = mix(second, (230, 226, 220), 0.5)
    draw.ellipse((0, 0, width - 1, height - 1), fill=(*scaled(main, 0.7), 255))
    for share, colour in ((0.08, lid), (0.2, scaled(lid, 0.88)), (0.24, scaled(lid, 1.06))):
        draw.ellipse((width * share, height * share, width * (1 - share), height * (1 - share)), fill=(*colour, 255))
    words(rng, draw, (width * 0.28, height * 0.38), height * 0.22, ink)
    return end


def _card(rng: np.random.Generator, product: Product, width: int, height: int) -> Image.Image:
    """A blister card: print, a hole to hang it by, and a bubble with the thing in it."""
    main, second, _ = product.colours
    face = printed(rng, product, width, height)
    draw = ImageDraw.Draw(face)
    draw.rounded_rectangle(
        (width * 0.15, height * 0.38, width * 0.85, height * 0.92),
        radius=width * 0.1,
        fill=mix(main, (190, 186, 180), 0.6),
    )
    draw.ellipse((width * 0.3, height * 0.48, width * 0.7, height * 0.82), fill=scaled(second, 0.7))
    draw.line(
        (width * 0.22, height * 0.44, width * 0.3, height * 0.86), fill=(235, 232, 226), width=max(1, width // 20)
    )
    draw.rounded_rectangle((width * 0.4, height * 0.04, width * 0.6, height * 0.09), radius=2, fill=(60, 54, 48))
    draw.rectangle((0, 0, width - 1, height - 1), outline=scaled(main, 0.7))
    return face.convert("RGBA")
