"""Draws one bin at up to three moments: what lies in it, the photos and the records of a before/after series."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from PIL import Image, ImageFilter
from pydantic import Field

from bintally.bins import BinRecord
from bintally.data.draw_bin import BinShape, Front, Shot, make_shape, paint_front, paint_inside, take
from bintally.data.draw_items import paint
from bintally.data.draw_pile import Pile, Placed, drawing_order
from bintally.data.draw_products import Family, Product, make_product

# How often bins hold 0..5 items, of the public split's training part; a third of all bins hold more.
_UP_TO_FIVE = (8_735, 37_049, 69_241, 81_107, 72_496, 56_107)
_OVER_FIVE = 0.33
_FALL = 0.76  # each count above five is about this many times as frequent as the one before it


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSettings:
    """What is drawn. The same settings give the same bytes, on however many processes.

    Attributes:
        num_photos: how many photos; the first n of a larger store of the same settings are the same photos.
        seed: of everything.
        size: typical side of a photo in pixels (width and height vary about it; 400 is as the originals are).
        most: the largest count.
        products: how many products the catalogue has.
        alone: share of the photos that have no sibling.
        hidden: share of the things' area that is to be hidden in bins of several things; the average comes out
            near it, a little lower because a thing alone in its bin is hidden by the bin only.
        copies: how often the next thing put in is one more of the last, 0..1.
        alike_sizes: how alike in size the things in all bins are, 0..1: at 0 few things are large and many small,
            so that a bin is as full with two things as with ten; at 1 all are middling, so that fullness tells
            the count.
        same_colours: share of the bins whose things are all of one family of colours.
        bands: how thick the elastic bands' strands hang before the things; 1 is as in the originals, 0 is none.
        blurred: share of the photos that are heavily blurred.
        lighting: how much exposure and colour cast vary; 1 is about as much as in the originals, 0 not at all.
        wrong: share of the records that are made wrong on purpose.
    """

    num_photos: Annotated[int, Field(ge=1, le=99_999)] = 3_000
    seed: Annotated[int, Field(ge=0)] = 0
    size: Annotated[int, Field(ge=48, le=1_200)] = 400
    most: Annotated[int, Field(ge=6, le=20)] = 12
    products: Annotated[int, Field(ge=20, le=999_999)] = 4_000
    alone: Annotated[float, Field(ge=0, le=1)] = 0.25
    hidden: Annotated[float, Field(ge=0, le=0.6)] = 0.22
    copies: Annotated[float, Field(ge=0, le=1)] = 0.45
    alike_sizes: Annotated[float, Field(ge=0, le=1)] = 0.5
    same_colours: Annotated[float, Field(ge=0, le=1)] = 0.3
    bands: Annotated[float, Field(ge=0, le=1)] = 1.0
    blurred: Annotated[float, Field(ge=0, le=1)] = 0.1
    lighting: Annotated[float, Field(ge=0, le=3)] = 1.0
    wrong: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnThing:
    """One thing in a drawn photo: its product's `sku` and the share of its area that can be `seen`, 0..1.

    Elastic bands count as nothing here: one sees between their strands.
    """

    sku: str
    seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnBin:
    """One drawn photo with its record.

    Attributes:
        photo_id: five digits.
        series: number of the before/after series it belongs to.
        photo: the bytes of the JPEG file.
        record: what its metadata says; wrong on purpose where its total is not the number of `things`.
        things: what lies in the bin, one entry a thing, in the order in which they were put there.
        hidden_share: share of the things' area that other things, the bin's frame or the photo's edge hide; 0 for
            an empty bin.
    """

    photo_id: str
    series: int
    photo: bytes
    record: BinRecord
    things: tuple[DrawnThing, ...]
    hidden_share: float


def drawn_bins(settings: DrawSettings) -> Iterator[DrawnBin]:
    """Draws the photos one after another, in this process, without a store."""
    for index, (first, length) in enumerate(series_of(settings)):
        yield from draw_series(settings, index, first, length)


def series_of(settings: DrawSettings) -> list[tuple[int, int]]:
    """The before/after series: number of the first photo, and how many there are (one to three), in order.

    Of the last one, only the photos up to the number of photos asked for are drawn.
    """
    # `alone` is a share of photos, the weights are shares of series; three series of two come on one of three.
    rng = np.random.default_rng([settings.seed, 1])
    weights = np.array([settings.alone, (1 - settings.alone) * 6 / 9 / 2, (1 - settings.alone) * 3 / 9 / 3])
    lengths = rng.choice(3, size=settings.num_photos, p=weights / weights.sum()) + 1
    series, first = [], 1
    for length in lengths:
        series.append((first, int(length)))
        first += int(length)
        if first > settings.num_photos:
            break
    return series


def count_weights(most: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How often a bin holds 0..most things: shape (most + 1,), sum 1."""
    low = np.array(_UP_TO_FIVE, dtype=np.float64)
    high = _FALL ** np.arange(most - 5)
    return np.concatenate([low / low.sum() * (1 - _OVER_FIVE), high / high.sum() * _OVER_FIVE])


def draw_series(settings: DrawSettings, index: int, first: int, length: int) -> list[DrawnBin]:
    """Draws one bin at up to three moments, things taken out or put in between them.

    Args:
        settings: what to draw.
        index: the number of the series; with the seed it decides everything.
        first: number of the first photo.
        length: how many photos; those beyond `settings.num_photos` are left out.
    """
    rng = np.random.default_rng([settings.seed, 2, index])
    counts = _counts(rng, settings, length)
    detail = min(1.7, max(1.15, 260 / settings.size))  # pixels of the canvas to one of the photo
    shape = make_shape(rng, settings.size * detail, max(counts))
    inside, front = paint_inside(rng, shape), paint_front(rng, shape, settings.bands)
    family = _family(rng, settings)
    pile = Pile(shape, settings.hidden)
    light = _light(rng, settings)
    sprites: list[_Sprite] = []
    drawn = []
    # With many things in it, only small ones fit.
    fill = float(rng.uniform(0.8, 1.7)) * (shape.right - shape.left) * (shape.hem - shape.top) / shape.per_inch**2
    area = (fill / max(1, *counts)) ** (1 - settings.alike_sizes)
    area *= _MIDDLING**settings.alike_sizes
    for number, count in enumerate(counts[: settings.num_photos + 1 - first]):
        keep = count if number and count < counts[number - 1] else len(pile.things)
        if number and count == counts[number - 1]:
            keep = count - 1  # one thing was taken out and another put in
        del pile.things[max(keep, 0) :], sprites[max(keep, 0) :]
        while len(pile.things) < count:
            product = _pick(rng, settings, family, [thing.product for thing in pile.things], area)
            sprites.append(_sprite(pile.put(rng, product)))
        canvas, seen, areas = _compose(inside, front, sprites, pile.things)
        shot = _shot(rng, settings, shape, detail, light)
        left, top, right, bottom = (round(edge) for edge in shot.box)
        visible = np.bincount(seen[top:bottom, left:right].ravel(), minlength=len(areas) + 1)[1:]
        photo_id = f"{first + number:05d}"
        drawn.append(
            DrawnBin(
                photo_id=photo_id,
                series=index,
                photo=take(rng, canvas, shot),
                record=_record(settings, photo_id, pile.things),
                things=tuple(
                    DrawnThing(sku=thing.product.sku, seen=float(part / area))
                    for thing, part, area in zip(pile.things, visible, areas, strict=True)
                ),
                hidden_share=float(1 - visible.sum() / areas.sum()) if count else 0.0,
            )
        )
    return drawn


_MIDDLING = 16.0  # square inches that a thing shows


@dataclass(frozen=True, slots=True)
class _Sprite:
    picture: Image.Image  # RGB, as lit where it stands
    alpha: Image.Image
    solid: Image.Image  # where it hides what is behind it
    shadow: Image.Image
    at: tuple[int, int]
    area: int


def _counts(rng: np.random.Generator, settings: DrawSettings, length: int) -> list[int]:
    """How many things lie in the bin at each moment: every one distributed alike, neighbours near each other."""
    weights = count_weights(settings.most)
    counts = [int(rng.choice(len(weights), p=weights))]
    while len(counts) < length:
        # Metropolis steps keep the distribution. A refused step leaves the count as it is (one thing is swapped),
        # which is rare among real neighbours; hence the several tries.
        now = counts[-1]
        for _ in range(3):
            then = now + int(rng.choice((-3, -2, -1, 1, 2, 3), p=(0.06, 0.14, 0.3, 0.3, 0.14, 0.06)))
            if 0 <= then <= settings.most and rng.random() < weights[then] / weights[now]:
                now = then
                break
        counts.append(now)
    return counts


def _family(rng: np.random.Generator, settings: DrawSettings) -> Family | None:
    families: tuple[Family, ...] = ("brown", "white", "dark", "warm", "cool")
    alike = rng.random() < settings.same_colours
    return families[int(rng.choice(5, p=(0.15, 0.3, 0.35, 0.08, 0.12)))] if alike else None


def _pick(
    rng: np.random.Generator, settings: DrawSettings, family: Family | None, there: list[Product], area: float
) -> Product:
    """The next thing to put in: often one more of what was put in last, else something of about the right size."""
    if there and rng.random() < settings.copies and _face_area(there[-1]) < 1.8 * area:
        return there[-1]
    drawn = (make_product(settings.seed, int(number)) for number in rng.integers(settings.products, size=8))

    def misfit(product: Product) -> float:
        return abs(math.log(_face_area(product) / area)) + (1.5 if family and product.family != family else 0)

    return min(drawn, key=misfit)


def _face_area(product: Product) -> float:
    """Square inches that a thing shows, on average of its sides."""
    long, middle, short = product.size_in
    return long * (middle + short) / 2


def _sprite(thing: Placed) -> _Sprite:
    picture = paint(thing.product, thing.pose, round(thing.width), round(thing.height))
    if abs(thing.angle) > 0.7:
        picture = picture.rotate(thing.angle, Image.Resampling.BICUBIC, expand=True)
    alpha = picture.getchannel("A")
    solid = Image.fromarray((np.asarray(alpha) >= 128).astype(np.uint8) * 255)
    left, _, _, bottom = thing.box
    soft = max(2, round(0.025 * (thing.width + thing.height)))
    shadow = Image.new("L", (picture.width + 4 * soft, picture.height + 4 * soft))
    shadow.paste(Image.blend(Image.new("L", alpha.size), alpha, 0.75), (2 * soft, 2 * soft))
    return _Sprite(
        picture=Image.blend(Image.new("RGB", picture.size), picture.convert("RGB"), thing.light),
        alpha=alpha,
        solid=solid,
        shadow=shadow.filter(ImageFilter.BoxBlur(soft)),
        at=(round(left), round(bottom) - picture.height),
        area=solid.histogram()[255],
    )


def _compose(
    inside: Image.Image, front: Front, sprites: list[_Sprite], things: list[Placed]
) -> tuple[
    Image.Image, "np.ndarray[tuple[int, int], np.dtype[np.uint8]]", "np.ndarray[tuple[int], np.dtype[np.int64]]"
]:
    """The canvas, whose pixel each pixel is (0 nobody's, 1 the first thing's …), and the things' whole areas."""
    canvas = inside.copy()
    owner = Image.new("L", canvas.size)
    for index in drawing_order(things):
        sprite = sprites[index]
        x, y = sprite.at
        margin = (sprite.shadow.width - sprite.picture.width) // 2
        canvas.paste((24, 17, 9), (x - margin, y - margin + margin // 3), sprite.shadow)
        canvas.paste(sprite.picture, (x, y), sprite.alpha)
        owner.paste(index + 1, (x, y), sprite.solid)
    canvas.paste(front.strands, (0, 0), front.cover)
    canvas.paste(front.frame, (0, 0), front.frame)
    seen = np.asarray(owner) * front.free
    return canvas, seen, np.array([max(1, sprite.area) for sprite in sprites], dtype=np.int64)


def _light(rng: np.random.Generator, settings: DrawSettings) -> tuple[float, float, float]:
    strength = float(np.exp(rng.normal(0, 0.13 * settings.lighting)))
    red, green, blue = (
        strength * base * float(1 + rng.normal(0, 0.025 * settings.lighting)) for base in (0.68, 0.63, 0.57)
    )
    return red, green, blue


def _shot(
    rng: np.random.Generator,
    settings: DrawSettings,
    shape: BinShape,
    detail: float,
    light: tuple[float, float, float],
) -> Shot:
    # The camera sees the bin nearly, but never quite, from the same place again.
    margin = 0.012
    left, top = (side * margin * float(np.clip(1 + rng.normal(0, 0.4), 0, 2)) for side in (shape.width, shape.height))
    width, height = shape.width * (1 - 2 * margin), shape.height * (1 - 2 * margin)
    size = round(width / detail), round(height / detail)
    heavy = rng.random() < settings.blurred
    radius = float(rng.uniform(0.006, 0.015)) if heavy else abs(float(rng.normal(0, 0.0017)))
    again = float(np.exp(rng.normal(0, 0.03 * settings.lighting)))
    red, green, blue = (value * again for value in light)
    veil = float(rng.uniform(0.8, 1.25))
    return Shot(
        size=size,
        box=(left, top, left + width, top + height),
        blur=radius * size[0],
        gain=(red, green, blue),
        veil=(36 * veil, 30 * veil, 27 * veil),
        noise=float(rng.uniform(1.0, 4.0)),
        quality=int(rng.integers(72, 90)),
    )


def _record(settings: DrawSettings, photo_id: str, things: list[Placed]) -> BinRecord:
    quantities = Counter(thing.product.number for thing in things)
    rng = np.random.default_rng([settings.seed, 3, int(photo_id)])
    if rng.random() < settings.wrong:
        wrong_by = int(rng.choice((-3, -2, -1, 1, 2, 3), p=(0.08, 0.17, 0.25, 0.25, 0.17, 0.08)))
        if not quantities or sum(quantities.values()) + wrong_by < 0:
            wrong_by = abs(wrong_by)
        _miscount(rng, quantities, wrong_by, settings.products)
    items = tuple(
        make_product(settings.seed, number).item(quantity) for number, quantity in quantities.items() if quantity
    )
    return BinRecord(bin_id=photo_id, items=items, expected_quantity=sum(item.quantity for item in items))


def _miscount(rng: np.random.Generator, quantities: Counter[int], wrong_by: int, products: int) -> None:
    """Adds to or takes from the quantities until their total is wrong by so much."""
    if not quantities:
        quantities[int(rng.integers(products))] = wrong_by
        return
    while wrong_by:
        numbers = [number for number, quantity in quantities.items() if wrong_by > 0 or quantity]
        step = 1 if wrong_by > 0 else -1
        quantities[int(rng.choice(numbers))] += step
        wrong_by -= step
