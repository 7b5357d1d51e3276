"""The summary: each figure against photos made to have it."""

import dataclasses
import json
from pathlib import Path

import pytest

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.data import summary as module
from bintally.data.manifest import Manifest, Problem, Row, ordered
from bintally.data.split import SplitSettings, split_manifest
from bintally.data.summary import PACK, summarise, summary_lines


def item(asin: str, quantity: int = 1, name: str = "Thing", *, whole: bool = True) -> Item:
    size = (1.0, 2.0, 3.0 if whole else None)
    return Item(sku=asin, asin=asin, name=name, quantity=quantity, size_in=size, weight_lb=1.0 if whole else None)


def row(name: str, *items: Item, expected: int | None = None, sha: str = "", look: int = 0, blur: float = 300) -> Row:
    total = sum(one.quantity for one in items) if expected is None else expected
    return Row(
        photo=BinPhoto(photo_id=name, uri=f"bin-images/{name}.jpg", sha256=sha or name, width=300, height=200),
        num_bytes=1000,
        blur=blur,
        look=f"{look:064x}",
        record=BinRecord(bin_id=name, items=items, expected_quantity=total),
        expected_quantity=total,
        label=total,
        label_source="record",
    )


def bits(*spans: range) -> int:
    return sum(1 << place for span in spans for place in span)


@pytest.fixture
def bins() -> Manifest:
    bare = dataclasses.replace(
        row("900", look=bits(range(100))), record=None, expected_quantity=None, label=None, label_source="none"
    )
    return ordered(
        Path("/bins"),
        [
            row("100", item("A", 3), item("B"), look=bits(range(100))),
            row("101", item("A", 2), item("B"), look=bits(range(90))),
            row("102", item("A", 2), item("B"), item("C", 7, "Socks, Set of 3"), look=bits(range(150, 250))),
            row("105", look=bits(range(60, 160)), sha="same"),
            row("106", item("D", whole=False), expected=2, look=bits(range(20, 220)), blur=12),
            row("300", look=bits(range(60, 160)), sha="same"),
            bare,
        ],
        [Problem(photo_id="7", what="empty")],
    )


def test_figures(bins: Manifest) -> None:
    found = summarise(bins)
    assert (found["photos"], found["labelled"]) == (7, 6)
    shown = {one["name"]: one["photos"] for one in found["counts"]["classes"]}
    assert shown == {"0": 2, "1": 0, "2": 1, "3": 1, "4": 1, "5": 0, "6-9": 0, "10+": 1}
    assert found["counts"]["exact"] == {"0": 2, "2": 1, "3": 1, "4": 1, "10": 1}
    assert found["counts"]["over_five"] == 1
    assert found["quantities"]["products_per_bin"] == {"0": 2, "1": 1, "2": 2, "3": 1}
    assert found["records"]["without"] == 1
    assert found["records"]["sum_differs"]["listed"] == [{"photo_id": "106", "expected": 2, "sum": 1}]
    assert found["records"]["products"] == 4
    assert (found["records"]["missing_size"], found["records"]["missing_weight"]) == (1, 1)
    assert found["records"]["packs"] == 1
    assert found["blur"]["blurred"] == 1
    assert found["examples"]["blurred"][0] == "106"
    assert sum(found["blur"]["histogram"]["photos"]) == 7
    assert found["sizes"]["common"] == [{"width": 300, "height": 200, "photos": 7}]
    assert found["problems"] == {"number": 1, "listed": [{"photo_id": "7", "what": "empty"}]}
    assert found["split"] is None


def test_duplicates(bins: Manifest) -> None:
    found = summarise(bins)["duplicates"]
    assert found["exact"] == {"number": 1, "listed": [["105", "300"]]}
    # 100 and 101 are 10 bits apart, and so is 101 and 900; 100 and 900 are alike to the bit, in other files.
    assert {tuple(pair["photos"]): pair["bits"] for pair in found["near"]["listed"]} == {
        ("100", "101"): 10,
        ("101", "900"): 10,
        ("100", "900"): 0,
    }
    assert found["near"]["labels_differ"] == 3


def test_many_photos_are_searched_among_neighbours(bins: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCH_ALL", 2)
    near = summarise(bins)["duplicates"]["near"]
    assert near["searched"] == "neighbours"
    assert [pair["photos"] for pair in near["listed"]] == [["100", "101"]]


def test_series(bins: Manifest) -> None:
    found = summarise(bins)["series"]
    assert (found["neighbours"], found["sharing_an_item"], found["either_empty"]) == (3, 2, 1)
    assert (found["only_removed"], found["only_added"]) == (1, 1)
    assert found["lengths"] == {"1": 1, "3": 2}
    assert found["sibling_share"] == pytest.approx(6 / 7)


def test_it_is_json_and_text(bins: Manifest) -> None:
    found = json.loads(json.dumps(summarise(bins), allow_nan=False))
    lines = dict(summary_lines(found))
    assert lines["problems"] == "1"
    assert lines["blurred (measure below 60)"] == "1 (14.3 %)"


def test_a_split_manifest_brings_its_table() -> None:
    rows = [row(str(100 + 4 * n), item(f"A{n}", 1 + n % 2), look=n * 7919) for n in range(60)]
    made = split_manifest(ordered(Path("/bins"), rows), SplitSettings(counts="1-2", near_bits=0))
    assert summarise(made)["split"]["kept"] == 60


def test_nothing_but_unlabelled_photos(bins: Manifest) -> None:
    found = summarise(ordered(bins.root, bins.rows[-1:]))
    assert found["counts"]["mean"] is None
    assert summary_lines(found)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "name", ["Socks (Pack of 6)", "Batteries, 12-Pack", "Set of 4 Mugs", "Tea 100 Count", "Wipes 10pcs", "Case of 12"]
)
def test_names_of_packs(name: str) -> None:
    assert PACK.search(name)


@pytest.mark.parametrize("name", ["Backpack", "USB Cable", "1-Pack Filter", "Discount Bag", "Settings Guide", "Mug"])
def test_names_of_single_things(name: str) -> None:
    assert not PACK.search(name)
