"""Wrong labels are found where the counter is good, and the estimate is not believed where it is not."""

import numpy as np
import pytest

from bintally import scores
from bintally.learn.suspects import joint, planted, ranked, surprises
from bintally.scores import Predictions


def counter(good: float, *, num: int = 600, wrong: int = 0, lowest: int = 0) -> Predictions:
    """A calibrated counter: labels are drawn from what it says; the first `wrong` are moved by three afterwards."""
    luck = np.random.default_rng(0)
    logits = luck.normal(size=(num, 6)) + good * np.eye(6)[luck.integers(lowest, 6, num)]
    logits[:, :lowest] = -np.inf
    probabilities = scores.softmax(logits)
    labels = np.array([luck.choice(6, p=one) for one in probabilities])
    labels[:wrong] = np.where(labels[:wrong] < 3, labels[:wrong] + 3, labels[:wrong] - 3)
    return Predictions(probabilities=probabilities, true_counts=labels)


def test_moved_labels_come_first() -> None:
    found = ranked(counter(8.0, wrong=20))
    assert sorted(found.tolist()) == list(range(600))
    assert (found[:30] < 20).sum() >= 16


def test_a_good_counter_knows_how_many_labels_are_wrong() -> None:
    clean, noisy = joint(counter(9.0)), joint(counter(9.0, wrong=60))
    assert clean["noise"] < 0.03
    assert noisy["noise"] == pytest.approx(clean["noise"] + 0.1, abs=0.03)
    assert noisy["counts"] == list(range(6))
    assert np.sum(noisy["confident"]) == 600


def test_a_weak_counter_blames_the_labels() -> None:
    # Not one label is wrong here: this is why `planted` stands beside the figure.
    assert joint(counter(1.0))["noise"] > 0.3


def test_planted_labels_tell_how_far_to_believe_it() -> None:
    rows = planted(counter(9.0), share=0.05, seed=0)
    assert [row["off"] for row in rows] == [1, 2, 3]
    assert all(row["planted"] == 30 for row in rows)
    assert all(row["found"] > 0.9 and row["times"] > 8 for row in rows)
    assert all(row["noise"] > row["before"] + 0.03 for row in rows)
    weak = planted(counter(0.5), share=0.05, seed=0)
    assert max(row["found"] for row in weak) < 0.6


def test_a_counter_from_one_has_no_column_of_zero() -> None:
    said = counter(4.0, lowest=1)
    assert joint(said)["counts"] == [1, 2, 3, 4, 5]
    assert all(row["planted"] for row in planted(said, share=0.05, seed=0))


def test_surprises_of_a_calibrated_counter_are_as_many_as_it_says() -> None:
    groups = [str(k) for k in range(3000)]
    rows = surprises(counter(4.0, num=3000), groups, resamples=200, seed=0)
    assert [row["below"] for row in rows] == [0.01, 0.02, 0.05]
    assert all(row["excess"]["low"] <= 0.002 and row["excess"]["high"] >= -0.002 for row in rows)
    noisy = surprises(counter(4.0, num=3000, wrong=150), groups, resamples=200, seed=0)
    assert noisy[1]["excess"]["low"] > 0.01
