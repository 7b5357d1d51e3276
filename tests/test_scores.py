import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bintally import scores
from bintally.counts import CountRange, distribution_of
from bintally.scores import Predictions


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    n, k = draw(st.integers(1, 12)), draw(st.integers(2, 6))
    # Small whole numbers make ties, which is where mistakes hide.
    weights = draw(st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k), min_size=n, max_size=n))
    shares = np.array(weights, dtype=float) + np.eye(k)[0] * (np.sum(weights, axis=1, keepdims=True) == 0)
    is_open = draw(st.booleans())
    top = k + 5 if is_open else k - 1
    truth = draw(st.lists(st.integers(0, top), min_size=n, max_size=n))
    return Predictions(
        probabilities=shares / shares.sum(axis=1, keepdims=True),
        true_counts=np.array(truth),
        open_mean=k + 0.5 if is_open else None,
    )


@given(predictions())
def test_figures_agree_with_loops(said: Predictions) -> None:
    values = [float(k) for k in range(said.num_classes)]
    if said.open_mean is not None:
        values[-1] = said.open_mean
    rows = []
    for p, truth in zip(said.probabilities.tolist(), said.true_counts.tolist(), strict=True):
        top = p.index(max(p))
        label = min(truth, len(p) - 1)
        mean = sum(q * v for q, v in zip(p, values, strict=True))
        rows.append(
            {
                "accuracy": float(top == label),
                "within_one": float(abs(top - label) <= 1),
                "rmse": (values[top] - truth) ** 2,
                "mae": abs(values[top] - truth),
                "rmse_expected": (mean - truth) ** 2,
                "mae_expected": abs(mean - truth),
                "bias_expected": mean - truth,
                "nll": -math.log(max(p[label], 1e-12)),
                "brier": sum((q - (k == label)) ** 2 for k, q in enumerate(p)),
            }
        )
    found = scores.figures(said)
    assert set(found) == set(rows[0])
    for name, value in found.items():
        mean = sum(row[name] for row in rows) / len(rows)
        assert value == pytest.approx(math.sqrt(mean) if name.startswith("rmse") else mean, abs=1e-9)


@given(predictions())
def test_confusion_and_per_count_agree_with_loops(said: Predictions) -> None:
    pairs = list(zip(said.classes.tolist(), said.likeliest.tolist(), strict=True))
    matrix = scores.confusion(said)
    for row in scores.per_count(said):
        mine = [(truth, top) for truth, top in pairs if truth == row.count]
        given_it = [(truth, top) for truth, top in pairs if top == row.count]
        assert (row.num_photos, row.num_said) == (len(mine), len(given_it))
        hits = pairs.count((row.count, row.count))
        assert row.accuracy == (pytest.approx(hits / len(mine)) if mine else None)
        assert row.precision == (pytest.approx(hits / len(given_it)) if given_it else None)
        expected = said.expected[said.classes == row.count]
        assert row.mean_expected == (pytest.approx(expected.mean()) if mine else None)
        assert matrix[row.count].tolist() == [pairs.count((row.count, other)) for other in range(said.num_classes)]


@given(predictions())
def test_coverage_agrees_with_loops_and_order_does_not_matter(said: Predictions) -> None:
    found = scores.coverage(said)
    assert found.coverage[-1] == 1
    assert found.accuracy[-1] == pytest.approx(scores.figures(said)["accuracy"])
    for share in np.unique(said.confidence):  # where no tie is cut, ranking is plain
        kept = said.confidence >= share
        assert found.accuracy_at(kept.mean()) == pytest.approx(said.correct[kept].mean())
    turned = said.where(np.arange(len(said))[::-1])  # the same photos from the last to the first
    assert scores.coverage(turned).accuracy == pytest.approx(found.accuracy)
    assert found.risk_area == pytest.approx(1 - found.accuracy.mean())


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6),
    st.floats(0.1, 10),
    st.sampled_from([CountRange(), CountRange(lowest=1, highest=6), CountRange(highest=5, open_ended=True)]),
)
def test_one_answer_equals_its_row_in_a_batch(logits: list[float], temperature: float, counts: CountRange) -> None:
    batch = scores.predictions_of([logits], [counts.lowest], counts, temperature=temperature, open_mean=7.25)
    one = distribution_of(logits, counts, temperature, 7.25)
    assert batch.probabilities[0].tolist() == pytest.approx(one.probabilities, abs=1e-12)
    assert batch.open_mean == one.open_mean
    assert batch.expected[0] == pytest.approx(one.expected)


def test_an_open_class_is_right_as_a_class_and_wrong_in_items() -> None:
    said = Predictions(probabilities=np.array([[0.0, 0.1, 0.9]]), true_counts=np.array([25]), open_mean=4.0)
    found = scores.figures(said)
    assert found["accuracy"] == 1
    assert found["within_one"] == 1
    assert found["rmse"] == 21
    assert found["rmse_expected"] == pytest.approx(25 - (0.1 + 0.9 * 4))
    assert found["nll"] == pytest.approx(-math.log(0.9))


def test_up_to_keeps_the_few_and_renormalises() -> None:
    said = Predictions(
        probabilities=np.array([[0.1, 0.1, 0.2, 0.6], [0.0, 0.0, 0.0, 1.0], [0.25, 0.25, 0.25, 0.25]]),
        true_counts=np.array([1, 2, 9]),
        open_mean=5.0,
    )
    few = said.up_to(2)
    assert few.probabilities == pytest.approx(np.array([[0.25, 0.25, 0.5], [1 / 3, 1 / 3, 1 / 3]]))
    assert few.true_counts.tolist() == [1, 2]
    assert few.open_mean is None
    with pytest.raises(ValueError, match="cannot be told apart"):
        said.up_to(3)


def test_up_to_pads_a_counter_that_ends_sooner() -> None:
    said = Predictions(probabilities=np.array([[0.5, 0.5]]), true_counts=np.array([1]))
    assert said.up_to(3).probabilities.tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_the_blind_counter_names_the_majority() -> None:
    shares = scores.class_shares([1, 1, 1, 2, 12], 4)
    assert shares.sum() == pytest.approx(1)
    assert shares.argmax() == 1
    assert shares.min() > 0
    found = scores.figures(scores.blind(shares, [1, 2, 1, 3]))
    assert found["accuracy"] == 0.5
    assert found["rmse"] == pytest.approx(math.sqrt((0 + 1 + 0 + 4) / 4))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_class_shares_give_the_least_loss_of_all_constant_answers(labels: list[int]) -> None:
    shares = (np.bincount(labels, minlength=4) + 0.25) / (len(labels) + 1)
    assert scores.class_shares(labels, 4) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("probabilities", "truth", "mean", "what"),
    [
        ([[0.5, 0.5]], [2], None, "beyond the last class"),
        ([[0.5, 0.5]], [-1], None, "whole numbers"),
        ([[0.5, 0.5]], [0.5], None, "whole numbers"),
        ([[0.5, 0.6]], [0], None, "sum to 1"),
        ([[math.nan, 1.0]], [0], None, "lie in 0..1"),
        ([[1.5, -0.5]], [0], None, "lie in 0..1"),
        ([[0.5, 0.5]], [0, 1], None, "true counts for 1 photos"),
        ([[0.5, 0.5]], [3], 0.5, "its mean is not"),
        ([], [], None, "shape"),
    ],
)
def test_predictions_that_exist_are_valid(
    probabilities: list[list[float]], truth: list[float], mean: float | None, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        Predictions(probabilities=np.array(probabilities), true_counts=np.array(truth), open_mean=mean)
