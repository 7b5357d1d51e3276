"""How things come to lie in a drawn bin: one after another, each on what is there already, partly before one another."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bintally.data.draw_bin import BinShape
from bintally.data.draw_items import POSES, ROLLING, SOFT, Pose, face_in
from bintally.data.draw_products import Product, which

_DEPTHS = (0.85, 0.45, 0.08)
"""The rows that things stand in, from the back (1) to the front (0)."""
_ROWS = {0: 0.42, 1: 0.3, 2: 0.28}  # how often things are put there
_TRIES = 14
_BESIDE = 4  # so many of the tries are next to or on top of the last thing of the same kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One thing in its place.

    Attributes:
        product: what it is.
        pose: the side it shows.
        row: 0 at the back, 1, 2 at the front.
        width: of that side in pixels, not turned.
        height: likewise.
        angle: how far it leans, in degrees, counter-clockwise.
        box: left, top, right, bottom of the leaning thing on the canvas.
        light: how bright it stands there; 1 at the front.
    """

    product: Product
    pose: Pose
    row: int
    width: float
    height: float
    angle: float
    box: tuple[float, float, float, float]
    light: float


class Pile:
    """The things in a bin, in the order in which they were put there.

    What was put in later rests on what was there before, so taking things out again in reverse leaves nothing in
    the air.
    """

    def __init__(self, shape: BinShape, hidden: float) -> None:
        self.shape = shape
        self.hidden = hidden
        self.things: list[Placed] = []

    def put(self, rng: np.random.Generator, product: Product) -> Placed:
        """Puts one more thing in, where it rests and hides about as much of the others as it should.

        Args:
            rng: decides among good places.
            product: what to put in.

        Returns:
            The thing in its place, also the last of `things`.
        """
        heights = self._heights()
        copies = [thing for thing in self.things if thing.product.number == product.number]
        target = self.hidden * float(rng.uniform(0.5, 1.6))
        tries = [
            self._try(rng, product, copies[-1] if copies and n < _BESIDE else None, heights) for n in range(_TRIES)
        ]
        costs = self._costs(tries, target) + rng.uniform(0, 0.06, _TRIES)
        if copies:
            costs[:_BESIDE] -= 0.25  # things of a kind are put together
        self.things.append(tries[int(costs.argmin())])
        return self.things[-1]

    def _heights(self) -> NDArray[np.float64]:
        """How high each row is filled, column by column of the canvas: (rows, width) pixels above its floor."""
        heights = np.zeros((len(_DEPTHS), self.shape.width))
        for thing in self.things:
            left, top, right, _ = thing.box
            columns = heights[thing.row, max(0, round(left)) : max(0, round(right))]
            # Bags give way and round things have low shoulders.
            give = 0.22 if thing.product.kind in SOFT else 0.04
            full = self._floor(thing.row) - top - give * thing.height
            np.maximum(columns, full, out=columns)
        return heights

    def _floor(self, row: int) -> float:
        return self.shape.floor + (self.shape.back[3] - self.shape.floor) * _DEPTHS[row]

    def _try(
        self,
        rng: np.random.Generator,
        product: Product,
        near: Placed | None,
        heights: NDArray[np.float64],
    ) -> Placed:
        pose, row, angle = self._pose(rng, product, near)
        depth = _DEPTHS[row]
        inset = depth * (self.shape.back[0] - self.shape.left) * 0.8
        low, high = self.shape.left + inset, self.shape.right - inset
        scale = self.shape.per_inch * (1 - 0.14 * depth)
        wide_in, high_in = face_in(product, pose)
        room = self._floor(row) - self.shape.top
        fit = min(1.0, (high - low) * 0.97 / (wide_in * scale), room * 1.02 / (high_in * scale))
        width, height = wide_in * scale * fit, high_in * scale * fit
        turn = math.radians(abs(angle))
        outer = (
            width * math.cos(turn) + height * math.sin(turn),
            width * math.sin(turn) + height * math.cos(turn),
        )
        spare = max(0.0, high - low - outer[0])
        if near is not None:
            beside = (near.box[2] + 1, near.box[0] - outer[0] - 1, (near.box[0] + near.box[2] - outer[0]) / 2)
            left = min(max(beside[int(rng.integers(3))], low), low + spare)
        else:
            left = low + spare * min(max(rng.normal(0.5, 0.4), 0.0), 1.0)
        under = np.sort(heights[row, max(0, round(left)) : max(1, round(left + outer[0]))])
        rest = float(under[int((0.8 if product.kind in SOFT else 0.97) * (under.size - 1))]) if under.size else 0.0
        bottom = self._floor(row) - rest
        return Placed(
            product=product,
            pose=pose,
            row=row,
            width=width,
            height=height,
            angle=angle,
            box=(left, bottom - float(outer[1]), left + float(outer[0]), bottom),
            light=(1 - 0.3 * depth) * rng.uniform(0.78, 1.05),
        )

    def _pose(self, rng: np.random.Generator, product: Product, near: Placed | None) -> tuple[Pose, int, float]:
        if near is not None:
            return near.pose, near.row, near.angle + float(rng.normal(0, 1.5))
        pose = which(rng, POSES[product.kind])
        row = which(rng, _ROWS)
        upright = pose in ("upright", "edge") and product.kind not in ROLLING
        if upright and rng.random() < 0.3:  # leans against a wall or a neighbour
            return pose, row, rng.uniform(8, 38) * (1 if rng.random() < 0.5 else -1)
        return pose, row, float(rng.normal(0, 7 if product.kind in SOFT else 2))

    def _costs(self, tries: list[Placed], target: float) -> NDArray[np.float64]:
        """How bad places are: sticking out at the top, hiding too much or too little, hiding one thing nearly whole.

        What hides what is reckoned by boxes; the true shares are counted when it is drawn.
        """
        room = self.shape.hem - self.shape.top
        boxes, rows = _boxes(tries)
        area = _areas(boxes)
        above = np.maximum(0, self.shape.top - boxes[:, 1])
        within = _common(boxes, np.array([[self.shape.left, self.shape.top, self.shape.right, self.shape.hem]]))[:, 0]
        outside = 1 - np.minimum(1, within / area)
        raised = np.array([self._floor(one.row) for one in tries]) - boxes[:, 3]
        cost: NDArray[np.float64] = (2.5 * above + 0.15 * np.maximum(0, raised)) / room
        if not self.things:
            return cost + 1.6 * outside
        old_boxes, old_rows = _boxes(self.things)
        old_area = _areas(old_boxes)
        rank = np.arange(len(self.things))
        over = (old_rows[None] > old_rows[:, None]) | (
            (old_rows[None] == old_rows[:, None]) & (rank[None] > rank[:, None])
        )
        covered = (_common(old_boxes, old_boxes) * over).sum(axis=1)
        common = _common(boxes, old_boxes)
        before = rows[:, None] >= old_rows[None]
        old_share = np.minimum(1, (covered[None] + common * before) / old_area)
        new_share = np.minimum(1, (common * ~before).sum(axis=1) / area + outside)
        whole = ((old_share * old_area).sum(axis=1) + new_share * area) / (old_area.sum() + area)
        # Things hidden for the most part are rare, unless much is to be hidden.
        most = 0.5 + max(0.0, self.hidden - 0.2)
        lost = np.maximum(0, old_share - most).sum(axis=1) + np.maximum(0, new_share - most)
        result: NDArray[np.float64] = cost + 2.5 * np.abs(whole - target) + 6.0 * lost
        return result


def drawing_order(things: list[Placed]) -> list[int]:
    """Indexes of `things` from the back to the front, as they are painted over one another."""
    return sorted(range(len(things)), key=lambda index: (things[index].row, index))


def _boxes(things: list[Placed]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes, shape (n, 4), and rows, shape (n,)."""
    return np.array([thing.box for thing in things]), np.array([thing.row for thing in things])


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.maximum(area, 1)


def _common(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that each of the first boxes shares with each of the second: shape (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.maximum(0, np.minimum(first[:, None, 2:], second[None, :, 2:]) - low)
    common: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return common
