"""Rows as columns and back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.data.rows import SCHEMA, Row, row_of, values_of

measure = st.none() | st.floats(0, 1e6)
items = st.builds(
    Item,
    sku=st.text(min_size=1),
    asin=st.text(),
    name=st.text(),
    quantity=st.integers(0, 2**31 - 1),
    size_in=st.tuples(measure, measure, measure),
    weight_lb=measure,
)
records = st.none() | st.builds(
    BinRecord, bin_id=st.just("7"), items=st.lists(items).map(tuple), expected_quantity=st.integers(0, 200)
)
photo = BinPhoto(photo_id="7", uri="bin-images/7.jpg", sha256="ab", width=4, height=3)


def row(record: BinRecord | None) -> Row:
    expected = None if record is None else record.expected_quantity
    source = "none" if record is None else "record"
    return Row(
        photo=photo,
        num_bytes=10,
        blur=1.5,
        look="00",
        record=record,
        expected_quantity=expected,
        label=expected,
        label_source=source,
    )


@settings(max_examples=40, deadline=None)
@given(record=records)
def test_a_row_comes_back_as_it_was(record: BinRecord | None) -> None:
    made = row(record)
    assert row_of(values_of(made)) == made
    assert list(values_of(made)) == SCHEMA.names


@pytest.mark.parametrize(("column", "value"), [("part", "exam"), ("label_source", "guess"), ("width", 0)])
def test_a_value_that_no_row_can_have_is_refused(column: str, value: object) -> None:
    with pytest.raises(ValueError, match="7"):
        row_of(values_of(row(None)) | {column: value})
