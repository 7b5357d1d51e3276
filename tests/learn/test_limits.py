"""Estimates of what no counter can pass, held against cases whose answer is known."""

import numpy as np
import pytest

from bintally.learn.limits import hidden_of, of_hidden, of_look_alikes, share


def test_look_alikes_allow_one_label_each() -> None:
    found = of_look_alikes([[1, 2], [3, 3], [4, 5, 4]], num_photos=100)
    assert found == {
        "sets": 3,
        "photos": 7,
        "differing": 2,
        "accuracy_there": pytest.approx(5 / 7),
        "accuracy": pytest.approx(0.98),
    }
    assert of_look_alikes([], num_photos=10)["accuracy_there"] is None


def test_nothing_hidden_costs_nothing_and_everything_leaves_the_commonest() -> None:
    shares = [0.1, 0.5, 0.4]
    assert of_hidden(shares, 0.0) == pytest.approx(1.0)
    assert of_hidden(shares, 1.0) == pytest.approx(0.5)
    assert of_hidden([1, 5, 4], 0.3) == pytest.approx(of_hidden(shares, 0.3))


def test_hidden_units_against_counting_out_all_cases() -> None:
    # One or two units, equally often, a tenth hidden: 2 seen is 2; 1 seen is 1 (0.9 against 0.18); 0 seen is 1.
    assert of_hidden([0, 0.5, 0.5], 0.1) == pytest.approx(0.5 * 0.81 + 0.5 * 0.9 + 0.5 * 0.1)


def test_against_a_simulation() -> None:
    luck = np.random.default_rng(0)
    shares = np.array([0.03, 0.11, 0.22, 0.25, 0.22, 0.17])
    counts = luck.choice(6, size=40_000, p=shares)
    seen = luck.binomial(counts, 0.85)
    table = np.zeros((6, 6))
    np.add.at(table, (seen, counts), 1)
    assert of_hidden(shares, 0.15) == pytest.approx(table.max(axis=1).sum() / 40_000, abs=0.01)


def test_backwards() -> None:
    shares = [0.03, 0.11, 0.22, 0.25, 0.22, 0.17]
    assert hidden_of(shares, of_hidden(shares, 0.12)) == pytest.approx(0.12, abs=1e-6)
    assert hidden_of(shares, 0.01) == 0.5


def test_a_share_has_wilsons_interval() -> None:
    found = share(8, 10)
    assert found["value"] == 0.8
    assert found["low"] == pytest.approx(0.4902, abs=1e-4)
    assert found["high"] == pytest.approx(0.9433, abs=1e-4)
    assert share(0, 20)["low"] == 0.0
    assert 0 < share(0, 20)["high"] < 0.2
    with pytest.raises(ValueError, match="nothing"):
        share(0, 0)
