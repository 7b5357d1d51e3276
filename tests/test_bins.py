import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.bins import BinPhoto, BinRecord, Item, are_neighbours, id_order, parse_record, record_json
from bintally.errors import RecordError

GOOD: dict[str, Any] = {
    "BIN_FCSKU_DATA": {
        "X1": {
            "asin": "B001",
            "name": "Soap",
            "normalizedName": "soap",
            "quantity": 2,
            "length": {"unit": "IN", "value": 3.5},
            "width": None,
            "weight": {"unit": "pounds", "value": 0.25},
        }
    },
    "EXPECTED_QUANTITY": 3,
}

measures = st.none() | st.floats(0, 1e6)
items = st.builds(
    Item,
    sku=st.text(min_size=1, max_size=8),
    asin=st.text(min_size=1, max_size=8),
    name=st.text(max_size=20),
    quantity=st.integers(0, 1000),
    size_in=st.tuples(measures, measures, measures),
    weight_lb=measures,
)


def test_the_public_format() -> None:
    record = parse_record(json.dumps(GOOD), "00523")
    item = Item(sku="X1", asin="B001", name="Soap", quantity=2, size_in=(3.5, None, None), weight_lb=0.25)
    assert record == BinRecord(bin_id="00523", items=(item,), expected_quantity=3)
    assert record.total == 2  # which differs from what the record expects, as in a few real ones


@given(st.lists(items, max_size=4, unique_by=lambda item: item.sku), st.integers(0, 1000))
def test_a_record_comes_back_as_it_was_written(found: list[Item], expected: int) -> None:
    record = BinRecord(bin_id="7", items=tuple(found), expected_quantity=expected)
    assert parse_record(json.dumps(record_json(record)), "7") == record


def _without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != key}


def _item(**changes: Any) -> dict[str, Any]:
    return GOOD | {"BIN_FCSKU_DATA": {"X1": GOOD["BIN_FCSKU_DATA"]["X1"] | changes}}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is a list"),
        (b"null", "is a NoneType"),
        (_without("EXPECTED_QUANTITY"), "lacks EXPECTED_QUANTITY"),
        (_without("BIN_FCSKU_DATA"), "lacks BIN_FCSKU_DATA"),
        (GOOD | {"BIN_FCSKU_DATA": []}, "not an object"),
        (GOOD | {"BIN_FCSKU_DATA": {"X1": 3}}, "is a int, not an object"),
        (GOOD | {"BIN_FCSKU_DATA": {"": GOOD["BIN_FCSKU_DATA"]["X1"]}}, "empty SKU"),
        (GOOD | {"EXPECTED_QUANTITY": -1}, "is -1, which is no count"),
        (GOOD | {"EXPECTED_QUANTITY": "3"}, "not a whole number"),
        (GOOD | {"EXPECTED_QUANTITY": 2.5}, "not a whole number"),
        (GOOD | {"EXPECTED_QUANTITY": True}, "not a whole number"),
        (GOOD | {"EXPECTED_QUANTITY": 1 << 40}, "no count of items"),
        (_item(quantity=-2), "is -2, which is no count"),
        (_item(quantity=None), "not a whole number"),
    ],
)
def test_what_is_no_record_is_said_in_one_line(body: Any, what: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body)
    with pytest.raises(RecordError, match=what) as error:
        parse_record(data, "00523")
    assert "00523" in str(error.value)
    assert len(str(error.value)) < 300


@given(st.binary(max_size=60))
def test_no_bytes_make_another_error(data: bytes) -> None:
    with pytest.raises(RecordError):
        parse_record(data, "1")


@pytest.mark.parametrize("value", [None, "heavy", {"value": None}, {"value": -1}, {"value": True}, {}, [1]])
def test_a_measure_that_is_none(value: Any) -> None:
    assert parse_record(json.dumps(_item(weight=value)), "1").items[0].weight_lb is None


def test_a_measure_that_is_not_finite() -> None:
    text = json.dumps(_item(weight={"value": 1e999}))  # Python writes and reads Infinity
    assert parse_record(text, "1").items[0].weight_lb is None


def test_half_a_character_becomes_a_question_mark() -> None:
    text = json.dumps(_item(name="a\ud800b"))
    assert parse_record(text, "1").items[0].name == "a?b"


def test_what_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="has a SKU"):
        Item(sku="", asin="", name="", quantity=1)
    with pytest.raises(ValueError, match="negative quantity"):
        Item(sku="a", asin="", name="", quantity=-1)
    with pytest.raises(ValueError, match="has a bin id"):
        BinRecord(bin_id="", items=(), expected_quantity=0)
    with pytest.raises(ValueError, match="negative quantity"):
        BinRecord(bin_id="1", items=(), expected_quantity=-1)
    with pytest.raises(ValueError, match="has an id"):
        BinPhoto(photo_id="", uri="", sha256="", width=1, height=1)
    with pytest.raises(ValueError, match="0×5 pixels"):
        BinPhoto(photo_id="1", uri="", sha256="", width=0, height=5)


def test_ids_are_ordered_by_length_then_number() -> None:
    ids = ["523", "00523", "9", "00100", "100", "99", "abc", "1²", "10"]
    assert sorted(ids, key=id_order) == ["9", "10", "99", "1²", "100", "523", "abc", "00100", "00523"]


def test_neighbours_have_one_length() -> None:
    assert are_neighbours("00100", "00101")
    assert are_neighbours("100", "99") is False
    assert not are_neighbours("100", "00101")
    assert not are_neighbours("100", "100")
    assert not are_neighbours("ab1", "ab2")
    assert not are_neighbours("1²", "13")


@pytest.mark.real
def test_every_real_record_parses(abid: Path) -> None:
    paths = sorted((abid / "metadata").iterdir())[:2000]
    records = [parse_record(path.read_bytes(), path.stem) for path in paths]
    off = sum(record.total != record.expected_quantity for record in records)
    assert off < len(records) / 200
    assert {item.weight_lb is None for record in records for item in record.items} == {True, False}


def test_a_unit_has_litres_when_all_its_sides_are_known() -> None:
    assert Item(sku="S", asin="A", name="", quantity=1, size_in=(10.0, 2.0, 1.0)).litres == pytest.approx(0.32774128)
    assert Item(sku="S", asin="A", name="", quantity=1, size_in=(10.0, None, 1.0)).litres is None
    assert Item(sku="S", asin="A", name="", quantity=1).litres is None
