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
        tries: list[tuple[float, Placed]] = []
        for attempt in range(10):
            near = copies[-1] if copies and attempt < 4 else None
            placed = self._try(rng, product, near, heights)
            cost = self._cost(placed, target) + float(rng.uniform(0, 0.06)) - (0.12 if near is not None else 0)
            tries.append((cost, placed))
        self.things.append(min(tries, key=lambda one: one[0])[1])
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

    def _cost(self, new: Placed, target: float) -> float:
        """How bad a place is: sticking out at the top, hiding too much or too little, hiding one thing nearly whole."""
        room = self.shape.hem - self.shape.top
        above = max(0.0, self.shape.top - new.box[1]) / room
        things = [*self.things, new]
        shares = _hidden(things)
        area = np.array([thing.width * thing.height for thing in things])
        whole = float((shares * area).sum() / area.sum())
        lost = float(np.maximum(0, shares - 0.65).sum())
        height = max(0.0, self._floor(new.row) - new.box[3]) / room
        return 2.5 * above + 1.6 * abs(whole - target) + 3.0 * lost + 0.15 * height


def drawing_order(things: list[Placed]) -> list[int]:
    """Indexes of `things` from the back to the front, as they are painted over one another."""
    return sorted(range(len(things)), key=lambda index: (things[index].row, index))


def _hidden(things: list[Placed]) -> NDArray[np.float64]:
    """About how much of each thing those before it hide, by their boxes; shares of at most 1."""
    boxes = np.array([thing.box for thing in things])
    rank = np.empty(len(things))
    rank[drawing_order(things)] = np.arange(len(things))
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.prod(np.maximum(0, high - low), axis=2) * (rank[None] > rank[:, None])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shares: NDArray[np.float64] = np.minimum(1, common.sum(axis=1) / np.maximum(area, 1))
    return shares
