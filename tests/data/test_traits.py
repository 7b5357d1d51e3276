"""Each photo lies in one slice of each trait; measures are cut into quarters; what is not known is said so."""

import io

import numpy as np
from PIL import Image

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.counts import CountRange
from bintally.data.rows import Row
from bintally.data.traits import UNKNOWN, Trait, traits_of

Size = tuple[float | None, float | None, float | None]


def item(name: str, quantity: int, size: Size = (10.0, 10.0, 10.0)) -> Item:
    return Item(sku=name, asin=name, name=name, quantity=quantity, size_in=size)


def row(number: int, *items: Item, blur: float = 100.0, record: bool = True) -> Row:
    total = sum(one.quantity for one in items)
    name = f"{number:05d}"
    return Row(
        photo=BinPhoto(photo_id=name, uri=f"{name}.jpg", sha256="0", width=8, height=8),
        num_bytes=1,
        blur=blur,
        look="0" * 64,
        record=BinRecord(bin_id=name, items=items, expected_quantity=total) if record else None,
        expected_quantity=total,
        label=total,
        label_source="record",
    )


def photo(_: Row) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 90, dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def found(*rows: Row, counts: CountRange | None = None) -> dict[str, Trait]:
    return {one.name: one for one in traits_of(rows, counts or CountRange(), photo)}


def test_counts_kinds_and_packs() -> None:
    traits = found(
        row(1),
        row(2, item("cup", 1)),
        row(3, item("cup", 3)),
        row(4, item("cup", 1), item("Set of 4 plates", 1)),
        row(5, item("12-pack of socks", 2), item("ct", 0)),
        row(6, item("cup", 2), item("pan", 1)),
        row(7, record=False),
    )
    assert traits["true count"].of == ("0", "1", "3", "2", "2", "3", "0")
    assert traits["true count"].order == ("0", "1", "2", "3", "4", "5")[:4]
    assert traits["kinds"].of == (
        *("empty", "one kind, one unit", "one kind, several units", "all of different kinds"),
        *("one kind, several units", "some alike", UNKNOWN),
    )
    assert traits["packs"].of == ("empty", "none", "none", "some", "all", "none", UNKNOWN)


def test_an_open_last_count_has_its_name() -> None:
    traits = found(row(1, item("cup", 25)), row(2, item("cup", 2)), counts=CountRange(highest=10, open_ended=True))
    assert traits["true count"].of == ("10+", "2")


def test_measures_are_cut_into_quarters() -> None:
    rows = [row(n, item("cup", 1, (10.0, 10.0, 1.0 * (n + 1)))) for n in range(40)]
    fill = found(*rows)["fill"]
    assert len(fill.order) == 4
    assert [fill.of.count(name) for name in fill.order] == [10, 10, 10, 10]
    assert fill.order[0] == "1.64 to 16.39"  # litres: 100 to 1,000 cubic inches
    assert fill.of[0] == fill.order[0]
    assert fill.of[-1] == fill.order[-1]


def test_equal_values_are_not_torn_apart() -> None:
    rows = [row(n, item("cup", 1)) for n in range(9)] + [row(9, item("cup", 5))]
    fill = found(*rows)["fill"]
    assert set(fill.of[:9]) == {fill.of[0]}


def test_what_is_not_known() -> None:
    traits = found(row(1, item("cup", 1, (None, 1.0, 1.0))), row(2), row(3, item("cup", 1), blur=5.0))
    assert traits["fill"].of[0] == traits["size of a unit"].of[0] == UNKNOWN
    assert traits["fill"].of[1] == "0.00"  # an empty bin is empty
    assert traits["size of a unit"].of[1] == UNKNOWN
    assert traits["blur"].of[2] == "blurred (below 60)"
    assert traits["elastic bands"].of[2] == UNKNOWN
    assert traits["blur"].order[0] == "blurred (below 60)"


def test_a_photo_that_is_gone_bad_has_no_bands() -> None:
    (bands,) = (one for one in traits_of([row(1)], CountRange(), lambda _: b"gone") if one.name == "elastic bands")
    assert bands.of == (UNKNOWN,)
