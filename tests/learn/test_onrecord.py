"""What else the records say: targets that stand there, losses that are 1 for who knows nothing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bintally.bins import LITRES_PER_CUBIC_INCH, BinRecord, Item
from bintally.learn.onrecord import RecordTargets, measures_of, record_targets, words_of


def record(*items: tuple[str, int, float | None]) -> BinRecord:
    """Of (name, quantity, side in inches)."""
    made = tuple(
        Item(sku=f"S{n}", asin="A", name=name, quantity=quantity, size_in=(side, side, side), weight_lb=side)
        for n, (name, quantity, side) in enumerate(items)
    )
    return BinRecord(bin_id="1", items=made, expected_quantity=sum(item.quantity for item in made))


def test_words_are_those_of_what_lies_in_the_bin() -> None:
    there = record(("Blue BOOK, 2-pack (A5)", 1, 1.0), ("Gone Shirt", 0, 1.0), ("blue cup", 2, 1.0))
    assert words_of(there) == {"blue", "book", "pack", "cup"}
    assert words_of(record()) == frozenset()


def test_measures_are_logarithms_of_what_is_known() -> None:
    assert measures_of(None) == pytest.approx((math.nan,) * 5, nan_ok=True)
    litres = 8 * LITRES_PER_CUBIC_INCH
    got = measures_of(record(("a", 3, 2.0), ("b", 1, 2.0)))
    wanted = (math.log(3), math.log1p(4 * litres), math.log1p(litres), math.log1p(8), math.log(4))
    assert got == pytest.approx(wanted)
    empty = measures_of(record())
    assert empty[:2] == (0.0, 0.0)
    assert math.isnan(empty[2])  # what a unit of nothing holds is not known
    unsized = measures_of(record(("a", 1, None)))
    assert math.isnan(unsized[1])
    assert unsized[0] == pytest.approx(math.log(2))


def targets_of(records: list[BinRecord | None], num_words: int = 128, *, measures: bool = True) -> RecordTargets:
    targets = record_targets(records, num_words, measures=measures)
    assert targets is not None
    return targets


def test_words_are_taken_by_how_many_bins_hold_them() -> None:
    cups = record(("cup", 1, 1.0), ("box of any", 1, 1.0))
    records = [
        record(("red red red box any", 1, 1.0)),
        record(("any box and cup", 1, 1.0)),
        None,
        cups,
        record(("any", 1, 1.0)),
    ]
    targets = targets_of(records, 2, measures=False)
    assert targets.words == ("box", "cup")  # "any", in every bin, tells nothing
    assert targets.values.tolist() == [[1, 0], [1, 1], [0, 0], [1, 1], [0, 0]]
    assert targets.known.tolist() == [[1, 1], [1, 1], [0, 0], [1, 1], [1, 1]]
    assert targets.start.tolist() == pytest.approx([math.log(3), 0])  # three of four bins, two of four


def test_nothing_asked_or_known_is_nothing() -> None:
    assert record_targets([None, None], 128, measures=True) is None
    assert record_targets([record(("box", 1, 1.0))], 0, measures=False) is None
    assert record_targets([record(("box", 1, 1.0))], 128, measures=False) is None


NAMES = st.lists(st.sampled_from(["box", "cup", "shirt", "book"]), max_size=3).map(" ".join)
ITEMS = st.lists(st.tuples(NAMES, st.integers(0, 9), st.none() | st.floats(0.1, 40)), max_size=4)
RECORDS = st.lists(st.none() | ITEMS.map(lambda items: record(*items)), min_size=1, max_size=30)


@given(RECORDS)
def test_losses_are_finite_zero_without_a_record_and_about_one_a_group_for_who_knows_the_averages(
    records: list[BinRecord | None],
) -> None:
    targets = record_targets(records, 128, measures=True)
    if targets is None:
        assert not any(records)
        return
    places = torch.arange(len(records))
    losses = targets.losses(targets.start.repeat(len(records), 1), places)
    assert torch.isfinite(losses).all()
    assert all(losses[n] == 0 for n, one in enumerate(records) if one is None)
    known = [n for n, one in enumerate(records) if one is not None]
    assert losses[known].mean() <= 2.01
    perfect = torch.where(targets.values > 0, 30.0, -30.0)
    num_words = len(targets.words)
    perfect[:, num_words:] = targets.values[:, num_words:]
    assert targets.losses(perfect, places).max() < 1e-3


def test_who_knows_the_averages_pays_one_for_words_and_one_for_measures() -> None:
    records = [record(("box", n % 4 + 1, 1.0 + n % 5), *([("cup", 1, 2.0)] if n % 3 else [])) for n in range(60)]
    for targets in (targets_of(list(records), measures=False), targets_of(list(records), 0)):
        losses = targets.losses(targets.start.repeat(60, 1), torch.arange(60))
        assert losses.mean().item() == pytest.approx(1, abs=0.05)


def test_the_order_of_photos_is_the_training_part_s() -> None:
    targets = targets_of([record(("box", 1, 1.0)), record(("cup", 5, 9.0))])
    told = torch.where(targets.values > 0, 30.0, -30.0)
    told[:, 2:] = targets.values[:, 2:]
    right = targets.losses(told[[1, 0]], torch.tensor([1, 0]))
    wrong = targets.losses(told, torch.tensor([1, 0]))
    assert right.max() < 1e-3 < wrong.min()
