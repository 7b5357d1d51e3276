"""The drawn catalogue: the same number is the same product, and every product is one that a record can hold."""

import json

import numpy as np

from bintally.bins import BinRecord, parse_record, record_json
from bintally.data.draw_products import make_product, which

CATALOGUE = [make_product(0, number) for number in range(600)]


def test_a_number_is_always_the_same_product() -> None:
    make_product.cache_clear()
    assert [make_product(0, number) for number in range(600)] == CATALOGUE
    assert make_product(1, 5) != CATALOGUE[5]


def test_products_are_all_different() -> None:
    assert len({product.sku for product in CATALOGUE}) == len(CATALOGUE)
    assert len({product.asin for product in CATALOGUE}) == len(CATALOGUE)


def test_products_have_what_the_public_records_have() -> None:
    assert len({product.kind for product in CATALOGUE}) == 10
    assert all(len(product.asin) == 10 and product.name for product in CATALOGUE)
    assert all(14 >= long >= middle >= short > 0.3 for long, middle, short in (one.size_in for one in CATALOGUE))
    without = sum(product.weight_lb is None for product in CATALOGUE) / len(CATALOGUE)
    assert 0.005 < without < 0.06
    other_sku = sum(product.sku != product.asin for product in CATALOGUE) / len(CATALOGUE)
    assert 0.08 < other_sku < 0.22


def test_a_record_of_products_is_read_back() -> None:
    items = tuple(product.item(2) for product in CATALOGUE[:50])
    record = BinRecord(bin_id="00001", items=items, expected_quantity=100)
    assert parse_record(json.dumps(record_json(record)), "00001") == record


def test_which_keeps_to_the_weights() -> None:
    rng = np.random.default_rng(0)
    drawn = [which(rng, {"a": 3.0, "b": 1.0, "c": 0.0}) for _ in range(2_000)]
    assert 0.7 < drawn.count("a") / 2_000 < 0.8
    assert "c" not in drawn
