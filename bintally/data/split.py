"""The split: photos that show the same bin stay together, and each group goes into one of four parts."""

import dataclasses
import hashlib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from bintally.bins import are_neighbours, id_order
from bintally.counts import CountRange
from bintally.data.look import look_distance
from bintally.data.manifest import PARTS, Manifest, Part, Row, SplitInfo, digest_of
from bintally.errors import SettingsError, SplitError

NEAR_BITS = 80
"""Neighbours whose 256-bit hashes differ in at most so many bits show the same bin.

Chosen on 8,000 real photos (`abid-224`). Of 400,000 pairs taken at random, 1 in 10,000 lies as near, the median is
124; of 4,547 neighbours that share no item 2 do; of 3,138 that share one, 27 %. At 104, the next place one might cut,
2 % of all pairs lie as near, and looking at the nearest pairs that share no item shows other bins of the same build.
So this rule adds little to that of shared items; it is there for the few pictures taken twice under two records.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSettings:
    """How to split.

    Attributes:
        counts: which bins to keep: "0-5", "1-5", "all" (the last class is open: "`top` or more"), or "all:12".
        top: the open last class of "all".
        seed: another seed gives another split.
        fractions: wished shares of train, validation, calibration and test; they are scaled to sum to 1.
        shuffled: split by photo, as the literature does: siblings end up on both sides. For comparison only.
        near_bits: see `NEAR_BITS`.
    """

    counts: str = "all"
    top: Annotated[int, Field(ge=1, le=1000)] = 10
    seed: Annotated[int, Field(ge=0)] = 0
    fractions: tuple[
        Annotated[float, Field(gt=0)],
        Annotated[float, Field(ge=0)],
        Annotated[float, Field(ge=0)],
        Annotated[float, Field(ge=0)],
    ] = (0.60, 0.15, 0.10, 0.15)
    shuffled: bool = False
    near_bits: Annotated[int, Field(ge=0, le=256)] = NEAR_BITS


def parse_counts(text: str, top: int = 10) -> CountRange:
    """Reads a range of counts: "1-5", "0-10+" (open), "all" (0 to `top` or more), "all:12".

    Raises:
        SettingsError: it is none of these.
    """
    if found := re.fullmatch(r"all(?::(\d{1,4}))?", text.strip()):
        low, high, is_open = 0, int(found[1] or top), True
    elif found := re.fullmatch(r"(\d{1,4})-(\d{1,4})(\+?)", text.strip()):
        low, high, is_open = int(found[1]), int(found[2]), bool(found[3])
    else:
        raise SettingsError(f"counts {text!r}: write 0-5, 1-5, 0-10+, all or all:12")
    try:
        return CountRange(lowest=low, highest=high, open_ended=is_open)
    except ValueError as error:
        raise SettingsError(f"counts {text!r}: {error}") from error


def split_manifest(manifest: Manifest, settings: SplitSettings | None = None) -> Manifest:
    """Gives every row its group and, if its count is kept, its part. Pure: nothing is read or written.

    Raises:
        SplitError: a class of the range has no photo, or there are too few groups for the parts.
        SettingsError: `settings.counts` is no range of counts.
    """
    settings = settings or SplitSettings()
    counts = parse_counts(settings.counts, settings.top)
    total = sum(settings.fractions)
    fractions = tuple(share / total for share in settings.fractions)
    groups = group_photos(manifest.rows, near_bits=settings.near_bits)
    classes = [None if row.label is None else counts.class_of(row.label) for row in manifest.rows]
    _check_classes(classes, counts)
    # Shuffled: each photo is a group of its own for the parts; the rows keep their groups, to tell what leaks.
    units = [row.photo.photo_id for row in manifest.rows] if settings.shuffled else groups
    # Parts are given to every bin and only then are other counts left out: a photo is in the same part whatever the
    # range, so that a counter of all bins and one of 0-5 can be scored on the same test photos, unseen by both.
    strata = [None if row.label is None else min(row.label, settings.top) for row in manifest.rows]
    parts = assign_parts(units, strata, fractions=fractions, seed=settings.seed)
    rows = tuple(
        dataclasses.replace(row, group=group, part=None if kept is None else part)
        for row, group, part, kept in zip(manifest.rows, groups, parts, classes, strict=True)
    )
    info = SplitInfo(counts=counts, seed=settings.seed, fractions=_four(fractions), shuffled=settings.shuffled)
    made = dataclasses.replace(manifest, rows=rows, split=info)
    _check_parts(made)
    return dataclasses.replace(made, digest=digest_of(made))


def group_photos(rows: Sequence[Row], *, near_bits: int = NEAR_BITS) -> tuple[str, ...]:
    """Which photos may not be split up: they show, or may show, one bin at several moments.

    Photos whose ids differ by one are of one group when they share an item, when either bin is empty (an emptied bin
    shares no item with anything), or when the pictures are nearly identical. When the photo between two is not in the
    dataset (a subset by count leaves such holes), those two are held against each other in the same way, but for
    empty bins: on the real photos 260 of 7,933 pairs of ids two apart share an item, every one of them by way of the
    photo between, and none three apart. Copies of one file are of one group wherever they are.

    Args:
        rows: in any order.
        near_bits: see `NEAR_BITS`.

    Returns:
        For each row the name of its group: the first of its photos' ids by `id_order`.
    """
    order = sorted(range(len(rows)), key=lambda n: id_order(rows[n].photo.photo_id))
    parent = list(range(len(rows)))

    def find(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    place = {one: where for where, one in enumerate(order)}

    def join(one: int, other: int) -> None:
        first, second = sorted((find(one), find(other)), key=place.__getitem__)
        parent[second] = first  # the root is the first by id, and names the group

    for one, other in itertools.pairwise(order):
        gap = _gap(rows[one], rows[other])
        if gap in (1, 2) and _same_bin(rows[one], rows[other], near_bits, next_to_each_other=gap == 1):
            join(one, other)
    first_of: dict[str, int] = {}
    for one in order:
        join(first_of.setdefault(rows[one].photo.sha256, one), one)
    return tuple(rows[find(one)].photo.photo_id for one in range(len(rows)))


def assign_parts(
    groups: Sequence[str], classes: Sequence[int | None], *, fractions: Sequence[float], seed: int
) -> tuple[Part | None, ...]:
    """Gives each group one part: by hash of group and seed, stratified by class.

    A group's stratum is its lowest and its highest class. In each stratum the groups stand in the order of their
    hashes, and the line is cut where the wished shares of photos are reached; a turn by the stratum's own hash keeps
    small strata from all favouring the same part. Neither the order of the photos nor the names of other groups
    matter, and a photo that is added moves no more than the groups at the cuts.

    Args:
        groups: the group of each photo.
        classes: the class of each photo; None leaves it out.
        fractions: share of each of `PARTS`, summing to 1.
        seed: another seed gives another split.

    Returns:
        The part of each photo; None for those left out.
    """
    sizes = Counter(group for group, one in zip(groups, classes, strict=True) if one is not None)
    stratum: dict[str, tuple[int, int]] = {}
    for group, one in zip(groups, classes, strict=True):
        if one is not None:
            low, high = stratum.get(group, (one, one))
            stratum[group] = (min(low, one), max(high, one))
    strata: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for group, ends in stratum.items():
        strata[ends].append(group)
    edges = list(itertools.accumulate(fractions))
    part_of: dict[str, Part] = {}
    for ends, members in strata.items():
        members.sort(key=lambda group: (_hash(seed, group), group))
        total, before = sum(sizes[group] for group in members), 0
        turn = _hash(seed, f"stratum {ends}")
        for group in members:
            where = ((before + sizes[group] / 2) / total + turn) % 1.0
            part_of[group] = next(
                (part for part, edge in zip(PARTS, edges, strict=True) if where < edge), _last(edges)
            )
            before += sizes[group]
    return tuple(None if one is None else part_of[group] for group, one in zip(groups, classes, strict=True))


def num_leaking(rows: Sequence[Row], *, scored: Part = "test", learnt: Part = "train") -> int:
    """How many photos of the part `scored` have a sibling (a photo of their group) in the part `learnt`."""
    seen = {row.group for row in rows if row.part == learnt}
    return sum(row.part == scored and row.group in seen for row in rows)


def split_report(manifest: Manifest) -> dict[str, Any]:
    """What a split came to, as plain values for a table or JSON.

    Returns:
        `counts`, `seed`, `shuffled`; `classes`: names of the classes; `parts`: for each part its `photos`, `share`
        of the kept photos, `groups` and `per_class`; `kept`, `left_out`; `leaking_test_photos` and
        `leaking_share` (of the test photos); `groups`: see `group_report`.

    Raises:
        SplitError: the manifest is not split.
    """
    info = manifest.split
    if info is None:
        raise SplitError(f"the manifest of {manifest.root} is not split: `bintally split` first")
    kept = [row for row in manifest.rows if row.part is not None]
    parts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        rows = [row for row in kept if row.part == part]
        classes = Counter(info.counts.class_of(row.label) for row in rows if row.label is not None)
        parts[part] = {
            "photos": len(rows),
            "share": len(rows) / len(kept),
            "groups": len({row.group for row in rows}),
            "per_class": [classes[one] for one in range(info.counts.num_classes)],
        }
    leaking, tested = num_leaking(kept), parts["test"]["photos"]
    return {
        "counts": str(info.counts),
        "seed": info.seed,
        "shuffled": info.shuffled,
        "classes": [info.counts.name(info.counts.lowest + one) for one in range(info.counts.num_classes)],
        "parts": parts,
        "kept": len(kept),
        "left_out": len(manifest.rows) - len(kept),
        "leaking_test_photos": leaking,
        "leaking_share": leaking / tested if tested else None,
        "groups": group_report([row.group for row in manifest.rows if row.group is not None]),
    }


def group_report(groups: Sequence[Hashable]) -> dict[str, Any]:
    """How large groups are: `groups`, `photos_with_sibling`, `sibling_share`, `longest`, `lengths` (length → groups)."""
    sizes = Counter(groups)
    lengths = Counter(sizes.values())
    with_sibling = sum(size for size in sizes.values() if size > 1)
    return {
        "groups": len(sizes),
        "photos_with_sibling": with_sibling,
        "sibling_share": with_sibling / len(groups) if groups else None,
        "longest": max(lengths, default=0),
        "lengths": {str(length): lengths[length] for length in sorted(lengths)},
    }


def _gap(one: Row, other: Row) -> int | None:
    first, second = one.photo.photo_id, other.photo.photo_id
    if are_neighbours(first, second):
        return 1
    numbers = len(first) == len(second) and all(text.isascii() and text.isdigit() for text in (first, second))
    return abs(int(first) - int(second)) if numbers else None


def _same_bin(one: Row, other: Row, near_bits: int, *, next_to_each_other: bool) -> bool:
    if one.record is not None and other.record is not None:
        asins, others = ({item.asin for item in row.record.items} for row in (one, other) if row.record is not None)
        if asins & others:
            return True
        if next_to_each_other and not (asins and others and one.record.total and other.record.total):
            return True
    return look_distance(one.look, other.look) <= near_bits


def _hash(seed: int, name: str) -> float:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)  # 56 bits: more than a float holds exactly, none reach 1


def _last(edges: Sequence[float]) -> Part:
    # Rounding may leave the last edge a hair below 1; what falls there belongs to the last part that is wished for.
    steps = [edge - before for before, edge in zip((0.0, *edges), edges, strict=False)]
    return next(part for part, step in zip(reversed(PARTS), reversed(steps), strict=True) if step > 0)


def _check_classes(classes: Sequence[int | None], counts: CountRange) -> None:
    kept = Counter(one for one in classes if one is not None)
    empty = [counts.name(counts.lowest + one) for one in range(counts.num_classes) if not kept[one]]
    if not kept:
        raise SplitError(f"no photo has a count of {counts}: nothing to split")
    if empty:
        names = ", ".join(empty)
        raise SplitError(
            f"no photo has the count {names}: fetch some, or leave it out with --counts (there are {_shown(kept, counts)})"
        )


def _shown(kept: Mapping[int, int], counts: CountRange) -> str:
    return ", ".join(f"{kept[one]} of {counts.name(counts.lowest + one)}" for one in sorted(kept))


def _check_parts(manifest: Manifest) -> None:
    info = manifest.split
    assert info is not None  # noqa: S101 - made by the caller
    photos = Counter(row.part for row in manifest.rows if row.part is not None)
    wished = [part for part, share in zip(PARTS, info.fractions, strict=True) if share > 0]
    missing = [part for part in wished if not photos[part]]
    if missing:
        num_groups = len({row.group for row in manifest.rows if row.part is not None})
        raise SplitError(
            f"{sum(photos.values())} photos in {num_groups} groups are too few for {len(wished)} parts: "
            f"{', '.join(missing)} would be empty; fetch more, or try another --seed"
        )
    learnt = {info.counts.class_of(row.label) for row in manifest.of_part("train") if row.label is not None}
    absent = [
        info.counts.name(info.counts.lowest + one) for one in range(info.counts.num_classes) if one not in learnt
    ]
    if absent:
        raise SplitError(
            f"train would have no photo with the count {', '.join(absent)}: fetch more of them, leave them out with "
            "--counts, or try another --seed"
        )


def _four(fractions: Sequence[float]) -> tuple[float, float, float, float]:
    one, two, three, four = fractions
    return one, two, three, four
