"""Photos that can be held against each other: nearly identical ones, and one bin before and after one unit's change."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bintally.bins import BinRecord, are_neighbours
from bintally.data.rows import Row
from bintally.data.summary import near_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Two photos of one bin between which its record changed by one unit.

    Attributes:
        fewer: the row of the photo with one unit less.
        more: the row of the other.
        what: the name of the product that was taken out or put in.
    """

    fewer: Row
    more: Row
    what: str


def look_alikes(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Sets of nearly identical photos with labels; whoever is nearly identical to one of a set belongs to it."""
    labelled = [row for row in rows if row.label is not None]
    home = list(range(len(labelled)))

    def root(place: int) -> int:
        while home[place] != place:
            place = home[place]
        return place

    for _, one, other in near_pairs(labelled):
        home[root(other)] = root(one)
    members: dict[int, list[Row]] = {}
    for place, row in enumerate(labelled):
        members.setdefault(root(place), []).append(row)
    return [tuple(found) for found in members.values() if len(found) > 1]


def changes(rows: Sequence[Row], *, number: int, seed: int) -> list[Change]:
    """Neighbouring photos of one bin whose records differ by one unit of one product: `number` of them, by chance.

    Args:
        rows: in order, as in a manifest; only those with a part are taken, since a counter's range holds both counts.
        number: at most so many.
        seed: another seed gives another choice. Which photos are there decides nothing else: a pair keeps its turn.
    """
    found = []
    for one, other in itertools.pairwise(rows):
        if one.part is None or other.part is None or not are_neighbours(one.photo.photo_id, other.photo.photo_id):
            continue
        if one.record is None or other.record is None:
            continue
        what = _one_unit(one.record, other.record)
        if what is not None and set(_quantities(one.record)) & set(_quantities(other.record)):
            fewer, more = (one, other) if one.record.total < other.record.total else (other, one)
            found.append(Change(fewer=fewer, more=more, what=what))
    found.sort(key=lambda pair: hashlib.sha256(f"{seed} {pair.more.photo.photo_id}".encode()).digest())
    return found[:number]


def _quantities(record: BinRecord) -> dict[str, int]:
    held: dict[str, int] = {}
    for item in record.items:
        held[item.asin] = held.get(item.asin, 0) + item.quantity
    return held


def _one_unit(one: BinRecord, other: BinRecord) -> str | None:
    """The name of the product by one unit of which two records differ, if that is all."""
    before, after = _quantities(one), _quantities(other)
    steps = {asin: after.get(asin, 0) - before.get(asin, 0) for asin in before.keys() | after.keys()}
    moved = [asin for asin, step in steps.items() if step]
    if len(moved) != 1 or abs(steps[moved[0]]) != 1:
        return None
    return next(item.name or item.sku for item in (*one.items, *other.items) if item.asin == moved[0])
