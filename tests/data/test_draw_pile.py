"""How things come to lie: on the floor or on one another, within the bin, partly before one another."""

import numpy as np
import pytest

from bintally.data.draw_bin import make_shape
from bintally.data.draw_pile import Pile, drawing_order
from bintally.data.draw_products import make_product


def pile_of(seed: int, count: int) -> Pile:
    rng = np.random.default_rng(seed)
    pile = Pile(make_shape(rng, 250, count), 0.2)
    for _ in range(count):
        pile.put(rng, make_product(0, int(rng.integers(500))))
    return pile


@pytest.mark.parametrize("seed", range(12))
def test_everything_rests_on_something(seed: int) -> None:
    pile = pile_of(seed, 6)
    floors = [pile.shape.back[3] + (pile.shape.floor - pile.shape.back[3]) * share for share in (0.15, 0.55, 0.92)]
    for index, thing in enumerate(pile.things):
        left, _, right, bottom = thing.box
        below = [
            other.box[1]
            for other in pile.things[:index]
            if other.row == thing.row and other.box[0] < right and other.box[2] > left
        ]
        # A bag lets things sink into it, by up to a quarter of its height.
        reach = max((other.height for other in pile.things[:index]), default=0) * 0.25
        rests = abs(bottom - floors[thing.row]) < 1.5 or any(-1.5 <= bottom - top <= reach + 1.5 for top in below)
        assert rests, f"thing {index} hangs in the air"


@pytest.mark.parametrize("seed", range(12))
def test_nothing_goes_through_the_walls(seed: int) -> None:
    pile = pile_of(seed, 8)
    for thing in pile.things:
        slack = 0.12 * (thing.box[2] - thing.box[0])  # of those that lean
        assert thing.box[0] > pile.shape.left - 2 - slack
        assert thing.box[2] < pile.shape.right + 2 + slack


def test_front_rows_are_drawn_last() -> None:
    things = pile_of(3, 9).things
    order = drawing_order(things)
    assert sorted(order) == list(range(9))
    assert [things[index].row for index in order] == sorted(thing.row for thing in things)


def test_copies_are_put_together() -> None:
    rng = np.random.default_rng(1)
    product = next(one for one in (make_product(0, number) for number in range(400)) if one.kind == "case")
    same = []
    for _ in range(8):
        pile = Pile(make_shape(rng, 250, 4), 0.2)
        poses = [pile.put(rng, product).pose for _ in range(4)]
        same.append(max(poses.count(pose) for pose in poses))
    assert np.mean(same) >= 3
