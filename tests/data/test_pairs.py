"""Which photos are held against each other."""

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.data.pairs import changes, look_alikes
from bintally.data.rows import Row

LOOKS = ("0" * 64, "0" * 63 + "1", "f" * 64)


def row(name: str, look: str = LOOKS[2], *, part: bool = True, **held: int) -> Row:
    items = tuple(Item(sku=asin, asin=asin, name=f"the {asin}", quantity=number) for asin, number in held.items())
    total = sum(held.values())
    return Row(
        photo=BinPhoto(photo_id=name, uri=f"{name}.jpg", sha256=name, width=8, height=8),
        num_bytes=1,
        blur=100.0,
        look=look,
        record=BinRecord(bin_id=name, items=items, expected_quantity=total),
        expected_quantity=total,
        label=total,
        label_source="record",
        part="test" if part else None,
    )


def ids(rows: tuple[Row, ...]) -> list[str]:
    return [one.photo.photo_id for one in rows]


def test_nearly_identical_photos_are_one_set() -> None:
    # 1 and 2 are alike, 2 and 3 too: all three are one set, even if 1 and 3 alone were not near enough.
    chain = [f"{(1 << 40 * n) - 1:064x}" for n in range(3)]
    found = look_alikes([row("1", chain[0]), row("2", chain[1]), row("3", chain[2]), row("4", "a5" * 32)])
    assert [ids(one) for one in found] == [["1", "2", "3"]]
    assert look_alikes([row("1", "0" * 64), row("2", "f" * 64)]) == []


def test_a_change_is_one_unit_of_one_product() -> None:
    rows = [
        row("01", cup=2, pan=1),
        row("02", cup=1, pan=1),  # a cup less
        row("03", cup=1, pan=1, pot=1),  # a pot more
        row("04", cup=2, pan=2, pot=1),  # two units: no change of one
        row("05", cup=1, pan=2, pot=1, part=False),  # beyond the range
        row("06", cup=1, pan=1, pot=1),
        row("08", cup=1, pan=1),  # no neighbour
    ]
    found = changes(rows, number=10, seed=0)
    assert {(one.fewer.photo.photo_id, one.more.photo.photo_id, one.what) for one in found} == {
        ("02", "01", "the cup"),
        ("02", "03", "the pot"),
    }
    assert len(changes(rows, number=1, seed=0)) == 1


def test_an_emptied_bin_may_be_another_bin() -> None:
    # Neighbours without a common product: nothing says that they show one bin.
    assert changes([row("01", cup=1), row("02")], number=10, seed=0) == []


def test_a_pair_keeps_its_turn() -> None:
    rows = [row(f"{n:03d}", cup=1 + n % 2) for n in range(40)]
    first = changes(rows, number=5, seed=1)
    assert first == changes(rows, number=40, seed=1)[:5]
    assert first != changes(rows, number=5, seed=2)
