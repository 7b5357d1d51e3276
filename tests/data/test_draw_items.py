"""How things are painted: every kind in every pose, the same each time, of the size asked for."""

import numpy as np
import pytest
from PIL import Image

from bintally.data.draw_items import POSES, face_in, paint
from bintally.data.draw_products import Kind, Product, make_product


def product_of(kind: Kind) -> Product:
    return next(one for one in (make_product(0, number) for number in range(1_000)) if one.kind == kind)


CASES = [(kind, pose) for kind, poses in POSES.items() for pose in poses]


@pytest.mark.parametrize(("kind", "pose"), CASES, ids=lambda value: str(value))
def test_every_kind_is_painted_in_every_pose(kind, pose) -> None:
    product = product_of(kind)
    wide_in, high_in = face_in(product, pose)
    width, height = round(wide_in * 12), round(high_in * 12)
    picture = paint(product, pose, width, height)
    assert picture.mode == "RGBA"
    assert width <= picture.width <= width * 1.2 + 2
    assert height <= picture.height <= height * 1.2 + 2
    values = np.asarray(picture)
    assert (values[..., 3] > 127).mean() > 0.55, "a thing fills most of its box"
    assert values[..., :3][values[..., 3] > 127].std() > 2, "a thing has more than one shade"
    again = paint(product, pose, width, height)
    assert again.tobytes() == picture.tobytes()


@pytest.mark.parametrize(("kind", "pose"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 3), (400, 300)])
def test_no_size_is_too_small_or_large(kind, pose, size) -> None:
    assert min(paint(product_of(kind), pose, *size).size) >= 3


def test_two_products_of_a_kind_look_different() -> None:
    boxes = [one for one in (make_product(0, number) for number in range(100)) if one.kind == "box"]
    pictures = [paint(one, "face", 60, 40).resize((60, 40)) for one in boxes[:6]]
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_a_product_looks_alike_at_every_size() -> None:
    product = product_of("box")
    large = paint(product, "face", 200, 120).convert("RGB").resize((20, 12), Image.Resampling.BOX)
    small = paint(product, "face", 100, 60).convert("RGB").resize((20, 12), Image.Resampling.BOX)
    difference = np.abs(np.asarray(large, dtype=float) - np.asarray(small, dtype=float)).mean()
    assert difference < 20


def test_sides_follow_the_product_s_size() -> None:
    product = product_of("book")
    long, middle, short = product.size_in
    assert face_in(product, "edge") == (short, long)
    assert face_in(product, "flat") == (long, short)
    assert face_in(product, "upright") == (middle, long)
