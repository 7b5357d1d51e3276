"""The summary of a dataset: what is in a manifest, as plain values for a terminal, JSON or a page."""

import hashlib
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bintally.bins import are_neighbours
from bintally.data.look import BLURRED_BELOW, distances, look_words
from bintally.data.manifest import Manifest, Row
from bintally.data.split import group_photos, group_report, split_report

NEAR_DUPLICATE_BITS = 48
"""Photos whose 256-bit hashes differ in at most so many bits are listed as near-duplicates: no two unrelated ones of
400,000 pairs of real photos came nearer than 70."""

SEARCH_ALL = 20_000
"""Up to so many photos near-duplicates are looked for among all pairs (seconds); beyond, among neighbours in the list."""

PACK = re.compile(
    r"\b(?:packs?|sets?|counts?|cases?|box|bundles?|lots?|dozen) of\b"
    r"|\b(?!0*1\b)\d+\s*-?\s*(?:packs?|pks?|counts?|ct|pieces?|pcs?)\b"
    r"|(?<![\d\s-])\s(?:packs?|counts?)\b",
    re.IGNORECASE,
)
"""Product names that say that one unit is several objects: "Set of 4", "12-pack", "100 count"."""

_CLASSES = (("0", 0, 0), ("1", 1, 1), ("2", 2, 2), ("3", 3, 3), ("4", 4, 4), ("5", 5, 5), ("6-9", 6, 9))
_LISTED = 100
_SHOWN = 12


def summarise(manifest: Manifest) -> dict[str, Any]:
    """What a manifest holds.

    Args:
        manifest: split or not.

    Returns:
        JSON-ready values: `root`, `digest`, `photos`, `labelled`, `counts`, `quantities`, `records`, `sizes`,
        `blur`, `duplicates`, `series`, `split` (None without one; see `split_report`), `problems`, and `examples`,
        the photo ids that a page shows. Lists of findings hold the first 100 and say how many there are.
    """
    rows = manifest.rows
    groups = [row.group for row in rows] if all(row.group for row in rows) else list(group_photos(rows))
    duplicates = _duplicates(rows)
    return {
        "root": str(manifest.root),
        "digest": manifest.digest,
        "photos": len(rows),
        "labelled": sum(row.label is not None for row in rows),
        "counts": _counts(rows),
        "quantities": _quantities(rows),
        "records": _records(rows),
        "sizes": _sizes(rows),
        "blur": _blur(rows),
        "duplicates": duplicates,
        "series": _series(rows) | group_report(groups),
        "split": split_report(manifest) if manifest.split is not None else None,
        "problems": {
            "number": len(manifest.problems),
            "listed": [
                {"photo_id": problem.photo_id, "what": problem.what} for problem in manifest.problems[:_LISTED]
            ],
        },
        "examples": {
            "by_count": [{"name": name, "photos": _some(ids)} for name, ids in _by_class(rows)],
            "blurred": [row.photo.photo_id for row in sorted(rows, key=lambda row: row.blur)[:_SHOWN]],
            "disputed": [pair for pair in duplicates["near"]["listed"] if pair["labels"][0] != pair["labels"][1]][
                :_SHOWN
            ],
        },
    }


def summary_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of a summary beside its counts, as text: what, and how many."""
    records, blur, duplicates, series = (summary[name] for name in ("records", "blur", "duplicates", "series"))

    def part(number: int, whole: int) -> str:
        return f"{number:,} ({100 * number / whole:.1f} %)" if whole else f"{number:,}"

    def span(size: Mapping[str, float]) -> str:
        return f"{size['lowest']:,} / {size['median']:,.0f} / {size['highest']:,}"

    photos = summary["photos"]
    return [
        ("photos with a label", part(summary["labelled"], photos)),
        ("bins that hold more than five", part(summary["counts"]["over_five"], summary["labelled"])),
        ("the fullest bin holds", f"{summary['counts']['highest'] or 0:,}"),
        ("width: lowest / median / highest", span(summary["sizes"]["width"])),
        ("height: lowest / median / highest", span(summary["sizes"]["height"])),
        ("bytes: lowest / median / highest", span(summary["sizes"]["bytes"])),
        (f"blurred (measure below {blur['below']:g})", part(blur["blurred"], photos)),
        ("copies of another photo's file", f"{duplicates['exact']['number']:,}"),
        (f"nearly identical pairs ({duplicates['near']['searched']} searched)", f"{duplicates['near']['number']:,}"),
        ("of these, with different labels", f"{duplicates['near']['labels_differ']:,}"),
        ("photos with a sibling (same bin, another moment)", part(series["photos_with_sibling"], photos)),
        ("groups of siblings, the largest", f"{series['groups']:,}, {series['longest']}"),
        ("neighbouring ids that share a product", part(series["sharing_an_item"], series["neighbours"])),
        ("photos without a usable record", part(records["without"], photos)),
        ("records whose sum differs from what is expected", f"{records['sum_differs']['number']:,}"),
        ("products", f"{records['products']:,}"),
        ("entries without a size", part(records["missing_size"], records["items"])),
        ("entries without a weight", part(records["missing_weight"], records["items"])),
        ("entries named pack, set or count of several", part(records["packs"], records["items"])),
        ("problems", f"{summary['problems']['number']:,}"),
    ]


def _counts(rows: Sequence[Row]) -> dict[str, Any]:
    labels = [row.label for row in rows if row.label is not None]
    exact = Counter(labels)
    return {
        "classes": [
            {"name": name, "photos": len(ids), "share": _share(len(ids), len(labels))}
            for name, ids in _by_class(rows)
        ],
        "exact": {str(count): exact[count] for count in sorted(exact)},
        "over_five": sum(label > 5 for label in labels),
        "over_five_share": _share(sum(label > 5 for label in labels), len(labels)),
        "mean": float(np.mean(labels)) if labels else None,
        "median": float(np.median(labels)) if labels else None,
        "highest": max(labels, default=None),
        "by_review": sum(row.label_source == "review" for row in rows),
    }


def _quantities(rows: Sequence[Row]) -> dict[str, Any]:
    records = [row.record for row in rows if row.record is not None]
    units = Counter(item.quantity for record in records for item in record.items)
    products = Counter(len(record.items) for record in records)
    return {
        "units_per_product": {str(number): units[number] for number in sorted(units)},
        "products_per_bin": {str(number): products[number] for number in sorted(products)},
    }


def _records(rows: Sequence[Row]) -> dict[str, Any]:
    records = [row.record for row in rows if row.record is not None]
    items = [item for record in records for item in record.items]
    differing = [
        {"photo_id": record.bin_id, "expected": record.expected_quantity, "sum": record.total}
        for record in records
        if record.total != record.expected_quantity
    ]
    packs = sum(PACK.search(item.name) is not None for item in items)
    return {
        "without": len(rows) - len(records),
        "items": len(items),
        "products": len({item.asin for item in items}),
        "sum_differs": {"number": len(differing), "listed": differing[:_LISTED]},
        "missing_size": sum(None in item.size_in for item in items),
        "missing_weight": sum(item.weight_lb is None for item in items),
        "missing_name": sum(not item.name for item in items),
        "packs": packs,
        "packs_share": _share(packs, len(items)),
    }


def _sizes(rows: Sequence[Row]) -> dict[str, Any]:
    common = Counter((row.photo.width, row.photo.height) for row in rows).most_common(5_000)
    return {
        "width": _spread([row.photo.width for row in rows]),
        "height": _spread([row.photo.height for row in rows]),
        "bytes": _spread([row.num_bytes for row in rows]),
        "common": [{"width": width, "height": height, "photos": number} for (width, height), number in common],
    }


def _blur(rows: Sequence[Row]) -> dict[str, Any]:
    values = np.array([row.blur for row in rows])
    blurred = int((values < BLURRED_BELOW).sum())
    edges = np.geomspace(1.0, 10_000.0, 41)
    held, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {
        "below": BLURRED_BELOW,
        "blurred": blurred,
        "share": _share(blurred, len(rows)),
        "percentiles": {str(at): round(float(np.percentile(values, at)), 2) for at in (1, 5, 10, 25, 50, 75, 90, 99)},
        "histogram": {"edges": [round(float(edge), 3) for edge in edges], "photos": [int(one) for one in held]},
    }


def _duplicates(rows: Sequence[Row]) -> dict[str, Any]:
    same: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        same[row.photo.sha256].append(row.photo.photo_id)
    exact = [ids for ids in same.values() if len(ids) > 1]
    near = sorted(near_pairs(rows), key=lambda found: found[0])
    listed: list[dict[str, Any]] = [
        {
            "bits": bits,
            "photos": [rows[one].photo.photo_id, rows[other].photo.photo_id],
            "labels": [rows[one].label, rows[other].label],
        }
        for bits, one, other in near
    ]
    disputed = sum(pair["labels"][0] != pair["labels"][1] for pair in listed)
    # The list is cut after the nearest; those whose labels differ come first, as someone may have to look at them.
    listed.sort(key=lambda pair: (pair["labels"][0] == pair["labels"][1], pair["bits"]))
    return {
        "exact": {"number": sum(len(ids) - 1 for ids in exact), "listed": exact[:_LISTED]},
        "near": {
            "number": len(listed),
            "labels_differ": disputed,
            "bits": NEAR_DUPLICATE_BITS,
            "searched": "all pairs" if len(rows) <= SEARCH_ALL else "neighbours",
            "listed": listed[:_LISTED],
        },
    }


def near_pairs(rows: Sequence[Row]) -> list[tuple[int, int, int]]:
    """Pairs of nearly identical photos: bits that differ, and the places of the two rows.

    Two photos of the same bytes are exact duplicates and no pair here.
    """
    words = look_words([row.look for row in rows])
    reach = len(rows) if len(rows) <= SEARCH_ALL else 3
    found = []
    for one in range(len(rows) - 1):
        bits = distances(words[one + 1 : one + 1 + reach], words[one])
        for step in np.flatnonzero(bits <= NEAR_DUPLICATE_BITS):
            other = one + 1 + int(step)
            if rows[one].photo.sha256 != rows[other].photo.sha256:
                found.append((int(bits[step]), one, other))
    return found


def _series(rows: Sequence[Row]) -> dict[str, Any]:
    pairs = sharing = empty = removals = additions = 0
    for one, other in itertools.pairwise(rows):
        if not are_neighbours(one.photo.photo_id, other.photo.photo_id) or one.record is None or other.record is None:
            continue
        pairs += 1
        before, after = (
            {item.asin: item.quantity for item in row.record.items} for row in (one, other) if row.record
        )
        empty += not before or not after
        if before.keys() & after.keys():
            sharing += 1
            change = {asin: after.get(asin, 0) - before.get(asin, 0) for asin in before.keys() | after.keys()}
            removals += any(change.values()) and all(step <= 0 for step in change.values())
            additions += any(change.values()) and all(step >= 0 for step in change.values())
    return {
        "neighbours": pairs,
        "sharing_an_item": sharing,
        "either_empty": empty,
        "only_removed": removals,
        "only_added": additions,
    }


def _by_class(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    def held(low: int, high: float) -> list[str]:
        return [row.photo.photo_id for row in rows if row.label is not None and low <= row.label <= high]

    return [(name, held(low, high)) for name, low, high in _CLASSES] + [("10+", held(10, float("inf")))]


def _some(ids: Iterable[str]) -> list[str]:
    # By hash: a fair choice, and the same one each time.
    return sorted(sorted(ids, key=lambda one: hashlib.sha256(one.encode()).digest())[:8])


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"lowest": min(values), "median": float(np.median(values)), "highest": max(values)}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
