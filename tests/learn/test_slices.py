"""Figures slice by slice are those of the slice's photos; what counts alone explain is taken off."""

import numpy as np
import pytest

from bintally import scores
from bintally.learn.slices import beyond_count, by_slice
from bintally.scores import Predictions


def made(num: int = 200) -> Predictions:
    luck = np.random.default_rng(0)
    labels = luck.integers(0, 6, num)
    return Predictions(
        probabilities=scores.softmax(luck.normal(size=(num, 6)) + 1.5 * np.eye(6)[labels]), true_counts=labels
    )


def test_a_slice_has_the_figures_of_its_photos() -> None:
    said = made()
    of = ["odd" if k % 2 else "even" for k in range(len(said))]
    rows = by_slice(said, [str(k // 2) for k in range(len(said))], of, ("odd", "none", "even"), resamples=200, seed=0)
    assert [row["name"] for row in rows] == ["odd", "even"]
    for row in rows:
        mask = np.array([one == row["name"] for one in of])
        own = scores.figures(said.where(mask))
        for name in ("accuracy", "within_one", "nll", "bias_expected"):
            assert row[name]["value"] == pytest.approx(own[name])
            assert row[name]["low"] <= row[name]["value"] <= row[name]["high"]
        assert row["photos"] == mask.sum()
        assert row["mean_count"] == pytest.approx(said.true_counts[mask].mean())


def test_a_slice_of_hard_counts_is_not_blamed_for_them() -> None:
    # Counts 0 and 1 are always right, 4 and 5 never; slices differ in nothing but their counts.
    labels = np.tile([0, 1, 4, 5], 50)
    probabilities = np.eye(6)[np.where(labels < 2, labels, 2)]
    said = Predictions(probabilities=probabilities, true_counts=labels)
    of = ["easy" if label < 2 else "hard" for label in labels]
    easy, hard = by_slice(said, [str(k) for k in range(200)], of, ("easy", "hard"), resamples=100, seed=0)
    assert (easy["accuracy"]["value"], hard["accuracy"]["value"]) == (1.0, 0.0)
    assert easy["accuracy_beyond"]["value"] == hard["accuracy_beyond"]["value"] == 0.0


def test_what_a_slice_adds_is_seen() -> None:
    classes = [1, 1, 1, 1, 3, 3, 3, 3]
    correct = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    assert beyond_count(correct, classes).tolist() == [0.5, 0.5, -0.5, -0.5, 0.5, 0.5, -0.5, -0.5]


def test_one_group_alone_has_no_interval() -> None:
    (row,) = by_slice(made(5), ["a"] * 5, ["all"] * 5, ("all",), resamples=100, seed=0)
    assert row["accuracy"]["low"] is None
    assert row["groups"] == 1
