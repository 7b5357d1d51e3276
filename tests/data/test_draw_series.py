"""The series: records that say what is drawn, siblings that are the same bin, as much hidden as in real bins."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bintally.bins import are_neighbours, parse_record, record_json
from bintally.data.draw_series import DrawnBin, DrawSettings, count_weights, draw_series, drawn_bins, series_of
from bintally.pixels import read_square

SETTINGS = DrawSettings(num_photos=200, seed=3, size=96)


@pytest.fixture(scope="module")
def drawn() -> list[DrawnBin]:
    return list(drawn_bins(SETTINGS))


def test_ids_count_up_from_one(drawn: list[DrawnBin]) -> None:
    assert [one.photo_id for one in drawn] == [f"{number:05d}" for number in range(1, 201)]


def test_the_record_says_what_is_drawn(drawn: list[DrawnBin]) -> None:
    for one in drawn:
        assert one.record.bin_id == one.photo_id
        assert one.record.expected_quantity == one.record.total == len(one.things)
        assert Counter({item.sku: item.quantity for item in one.record.items}) == Counter(
            thing.sku for thing in one.things
        )
        assert parse_record(json.dumps(record_json(one.record)), one.photo_id) == one.record


def test_about_a_fifth_of_the_things_area_is_hidden(drawn: list[DrawnBin]) -> None:
    hidden = [one.hidden_share for one in drawn if one.things]
    assert 0.15 < np.mean(hidden) < 0.28
    assert all(one.hidden_share == 0 for one in drawn if not one.things)


def test_nearly_everything_can_be_seen_in_part_but_not_all(drawn: list[DrawnBin]) -> None:
    seen = np.array([thing.seen for one in drawn for thing in one.things])
    assert 0 <= seen.min() < 0.2
    assert seen.max() <= 1
    assert (seen < 0.05).mean() < 0.08


def test_more_hiding_when_asked_for() -> None:
    little, much = (
        np.mean(
            [one.hidden_share for one in drawn_bins(replace(SETTINGS, num_photos=24, hidden=share)) if one.things]
        )
        for share in (0.0, 0.5)
    )
    assert much > little + 0.06


def test_siblings_are_neighbours_and_share_the_picture(drawn: list[DrawnBin]) -> None:
    within, across = [], []
    for one, other in itertools.pairwise(drawn):
        assert are_neighbours(one.photo_id, other.photo_id)
        first, second = (read_square(value.photo, 24).astype(float) for value in (one, other))
        (within if one.series == other.series else across).append(np.abs(first - second).mean())
    assert np.median(within) < 0.5 * np.median(across)


def test_siblings_share_products_or_one_is_empty(drawn: list[DrawnBin]) -> None:
    for one, other in itertools.pairwise(drawn):
        if one.series == other.series and len(one.things) > 1 and len(other.things) > 1:
            assert {item.sku for item in one.record.items} & {item.sku for item in other.record.items}


def test_most_siblings_hold_more_or_less_than_each_other(drawn: list[DrawnBin]) -> None:
    changes = [
        len(other.things) - len(one.things) for one, other in itertools.pairwise(drawn) if one.series == other.series
    ]
    assert min(changes) < 0 < max(changes)
    assert changes.count(0) < 0.25 * len(changes)


def test_three_of_four_photos_have_a_sibling_and_no_series_is_longer_than_three() -> None:
    lengths = [length for _, length in series_of(replace(SETTINGS, num_photos=5_000))]
    assert set(lengths) == {1, 2, 3}
    assert 0.70 < sum(length for length in lengths if length > 1) / sum(lengths) < 0.80
    assert {length for _, length in series_of(replace(SETTINGS, alone=1.0))} == {1}
    assert 1 not in {length for _, length in series_of(replace(SETTINGS, alone=0.0))}


def test_series_cover_every_id_once() -> None:
    first = 1
    for start, length in series_of(SETTINGS):
        assert start == first
        first += length
    assert 201 <= first <= 203


def test_a_smaller_store_is_the_beginning_of_a_larger_one(drawn: list[DrawnBin]) -> None:
    first, length = next(one for one in series_of(SETTINGS) if one[1] == 3)
    for number in (first, first + 1):  # within a series
        index = series_of(SETTINGS).index((first, length))
        cut = draw_series(replace(SETTINGS, num_photos=number), index, first, length)
        assert cut == drawn[first - 1 : number]


def test_counts_are_distributed_as_in_the_public_dataset() -> None:
    weights = count_weights(12)
    assert weights.shape == (13,)
    assert weights.sum() == pytest.approx(1)
    assert weights[6:].sum() == pytest.approx(0.33)
    assert weights[1] / weights[0] == pytest.approx(37_049 / 8_735)
    assert (np.diff(weights[6:]) < 0).all()


def test_drawn_counts_follow_the_weights(drawn: list[DrawnBin]) -> None:
    counts = np.array([len(one.things) for one in drawn])
    assert counts.max() <= 12
    assert 0.2 < (counts > 5).mean() < 0.46
    assert abs(counts.mean() - float(count_weights(12) @ np.arange(13))) < 0.8


def test_knobs_of_difficulty() -> None:
    def kinds_per_thing(copies: float) -> float:
        bins = drawn_bins(replace(SETTINGS, num_photos=24, copies=copies))
        return float(np.mean([len(one.record.items) / len(one.things) for one in bins if len(one.things) > 1]))

    assert kinds_per_thing(0.9) < kinds_per_thing(0.0) - 0.2


def test_another_seed_draws_other_bins(drawn: list[DrawnBin]) -> None:
    first, length = series_of(SETTINGS)[0]
    assert draw_series(replace(SETTINGS, seed=4), 0, first, length)[0].photo != drawn[0].photo


def test_about_one_in_ten_is_heavily_blurred(drawn: list[DrawnBin]) -> None:
    def detail(one: DrawnBin) -> float:
        grey = read_square(one.photo, 96).mean(axis=2)
        return float(np.abs(np.diff(grey, axis=0)).mean())

    sharp = np.mean([detail(one) for one in drawn_bins(replace(SETTINGS, num_photos=12, blurred=0.0))])
    blurred = np.mean([detail(one) for one in drawn_bins(replace(SETTINGS, num_photos=12, blurred=1.0))])
    assert blurred < 0.7 * sharp


def test_wrong_records_are_wrong_and_the_others_are_not() -> None:
    wrong = list(drawn_bins(replace(SETTINGS, num_photos=30, wrong=0.4)))
    differ = [one.record.expected_quantity != len(one.things) for one in wrong]
    assert 0.15 < np.mean(differ) < 0.65
    off = {abs(one.record.expected_quantity - len(one.things)) for one in wrong}
    assert off <= {0, 1, 2, 3}
    right = list(drawn_bins(replace(SETTINGS, num_photos=30)))
    assert [one.photo for one in wrong] == [one.photo for one in right], "the record is wrong, not the photo"
