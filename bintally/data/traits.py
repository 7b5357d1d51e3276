"""What may make a bin hard to count: count, blur, bands, fill, sizes, kinds and packs, each photo's slice of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bintally.bins import BinRecord
from bintally.counts import CountRange
from bintally.data.bands import bands_of
from bintally.data.look import BLURRED_BELOW
from bintally.data.rows import Row
from bintally.data.summary import PACK
from bintally.errors import UnreadablePhotoError
from bintally.pixels import decode

UNKNOWN = "not known"

_PARTS = 4
"""Measures are cut so that each slice has about a quarter of the photos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One way to cut photos into slices.

    Attributes:
        name: of the trait, such as "blur".
        about: what is measured and in what, in a sentence.
        order: the slices' names, in order.
        of: each photo's slice.
    """

    name: str
    about: str
    order: tuple[str, ...]
    of: tuple[str, ...]


def traits_of(rows: Sequence[Row], counts: CountRange, read: Callable[[Row], bytes]) -> list[Trait]:
    """The traits of photos that have a label, in the order of `rows`.

    Args:
        rows: at least one.
        counts: the range that the counter covers: names of the counts.
        read: gives a photo's bytes, for the bands.
    """
    labels = [min(row.label or 0, counts.highest) for row in rows]
    sharp = [row.blur >= BLURRED_BELOW for row in rows]
    bands = [_bands(read(row)) if clear else None for row, clear in zip(rows, sharp, strict=True)]
    units = [_unit(row.record) for row in rows]
    return [
        _named(
            "true count",
            "Units on record.",
            tuple(counts.name(count) for count in range(counts.lowest, counts.highest + 1)),
            [counts.name(label) for label in labels],
        ),
        _measured(
            "blur",
            f"Variance of the Laplacian; below {BLURRED_BELOW:g} a photo counts as blurred.",
            [row.blur if clear else None for row, clear in zip(rows, sharp, strict=True)],
            unknown=f"blurred (below {BLURRED_BELOW:g})",
            digits=0,
        ),
        _measured(
            "elastic bands",
            "Share of the photo that shows level strands one above another; not measured on blurred photos.",
            bands,
        ),
        _measured(
            "fill",
            "Volume of all units on record, in litres; an empty bin has none. Sizes are those of the record, in inches.",
            [_volume(row.record) for row in rows],
        ),
        _measured("size of a unit", "Mean volume of a unit on record, in litres; not known of empty bins.", units),
        _named(
            "kinds",
            "Different products on record.",
            (
                "empty",
                "one kind, one unit",
                "one kind, several units",
                "all of different kinds",
                "some alike",
                UNKNOWN,
            ),
            [_kinds(row.record) for row in rows],
        ),
        _named(
            "packs",
            "Whether a product's name says that one unit is several objects (pack, set, count of).",
            ("none", "some", "all", "empty", UNKNOWN),
            [_packs(row.record) for row in rows],
        ),
    ]


def _named(name: str, about: str, order: tuple[str, ...], of: Sequence[str]) -> Trait:
    found = set(of)
    return Trait(name=name, about=about, order=tuple(one for one in order if one in found), of=tuple(of))


def _measured(
    name: str, about: str, values: Sequence[float | None], *, unknown: str = UNKNOWN, digits: int = 2
) -> Trait:
    """Cuts a measure into quarters; equal values stay together, so there may be fewer."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    shown = np.round(known, digits)
    cuts = np.unique(np.quantile(shown, np.arange(1, _PARTS) / _PARTS)) if len(known) else known
    place = np.searchsorted(cuts, shown, side="right")
    names: dict[int, str] = {}
    for part in np.unique(place).tolist():
        low, high = shown[place == part].min(), shown[place == part].max()
        names[part] = f"{low:.{digits}f}" if low == high else f"{low:.{digits}f} to {high:.{digits}f}"
    parts = iter(place.tolist())
    of = [unknown if value is None else names[next(parts)] for value in values]
    first = (unknown,) if unknown != UNKNOWN else ()
    order = (*first, *(names[part] for part in sorted(names)), *(() if first else (unknown,)))
    return _named(name, about, order, of)


def _bands(photo: bytes) -> float | None:
    try:
        return bands_of(decode(photo))
    except UnreadablePhotoError:
        return None


def _volume(record: BinRecord | None) -> float | None:
    """Litres of all units; None when the size of any is missing."""
    if record is None:
        return None
    total = 0.0
    for item in record.items:
        if item.quantity and item.litres is None:
            return None
        total += item.quantity * (item.litres or 0.0)
    return total


def _unit(record: BinRecord | None) -> float | None:
    volume = _volume(record)
    return volume / record.total if record is not None and volume is not None and record.total else None


def _kinds(record: BinRecord | None) -> str:
    if record is None:
        return UNKNOWN
    items = [item for item in record.items if item.quantity]
    if not items:
        return "empty"
    if len(items) == 1:
        return "one kind, one unit" if record.total == 1 else "one kind, several units"
    return "all of different kinds" if record.total == len(items) else "some alike"


def _packs(record: BinRecord | None) -> str:
    if record is None:
        return UNKNOWN
    packs = [PACK.search(item.name) is not None for item in record.items if item.quantity]
    if not packs:
        return "empty"
    return "all" if all(packs) else "some" if any(packs) else "none"
