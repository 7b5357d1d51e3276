import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bintally import calibration, scores
from bintally.calibration import TEMPERATURES, Bins
from bintally.scores import Predictions


def honest(n: int, seed: int, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits and classes drawn from just the probabilities that they give."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, 6)) * sharpness
    classes = (scores.softmax(logits).cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return logits, np.minimum(classes, 5)


def said(logits: np.ndarray, classes: np.ndarray, temperature: float = 1.0) -> Predictions:
    return Predictions(probabilities=scores.softmax(logits, temperature), true_counts=classes)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5])
def test_temperature_recovers_a_known_factor(factor: float) -> None:
    logits, classes = honest(20_000, seed=1)
    assert calibration.fit_temperature(logits * factor, classes) == pytest.approx(factor, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 60), st.floats(0.2, 5))
def test_no_other_temperature_is_better(seed: int, n: int, factor: float) -> None:
    logits, classes = honest(n, seed)
    best = calibration.fit_temperature(logits * factor, classes)

    def loss(temperature: float) -> float:
        return scores.figures(said(logits * factor, classes, temperature))["nll"]

    others = np.geomspace(*TEMPERATURES, 60)
    assert loss(best) <= min(loss(float(one)) for one in others) + 1e-9


def test_temperature_stays_within_its_bounds() -> None:
    right = np.eye(4) * 3
    assert calibration.fit_temperature(right, range(4)) == TEMPERATURES[0]
    assert calibration.fit_temperature(right, [1, 2, 3, 0]) == TEMPERATURES[1]
    assert calibration.fit_temperature(np.zeros((3, 4)), [0, 1, 2]) == 1.0
    with pytest.raises(ValueError, match="a temperature is fitted"):
        calibration.fit_temperature(np.zeros((0, 4)), [])
    with pytest.raises(ValueError, match="a temperature is fitted"):
        calibration.fit_temperature(np.zeros((2, 4)), [0])


@pytest.mark.parametrize("bins", ["width", "mass"])
def test_an_honest_counter_is_off_by_chance_alone(bins: Bins) -> None:
    errors, chances = [], []
    for seed in range(30):
        one = said(*honest(400, seed))
        errors.append(calibration.calibration_error(one, bins=bins))
        chances.append(calibration.calibration_error_by_chance(one, bins=bins, simulations=200).mean)
    assert np.mean(errors) == pytest.approx(np.mean(chances), rel=0.1)
    assert np.mean(chances) > 0.02  # far from 0 at this size, which is the point


def test_a_boastful_counter_is_off_by_more_than_chance() -> None:
    logits, classes = honest(1000, 3)
    boastful = said(logits * 3, classes)
    assert calibration.calibration_error(boastful) > 3 * calibration.calibration_error_by_chance(boastful).high


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 10),
)
def test_equal_spans_agree_with_loops(photos: list[tuple[int, bool]], num_bins: int) -> None:
    # Probabilities of 9/16, 10/16 … 1: some of them on the spans' edges.
    shares = np.array([[0.0, 0.0] for _ in photos])
    shares[:, 0] = [1 - (8 + level) / 16 if level < 8 else 0.0 for level, _ in photos]
    shares[:, 1] = 1 - shares[:, 0]
    confidence = shares.max(axis=1)
    classes = [
        int(row.argmax()) if right else 1 - int(row.argmax()) for row, (_, right) in zip(shares, photos, strict=True)
    ]
    one = Predictions(probabilities=shares, true_counts=np.array(classes))
    total = 0.0
    for k in range(num_bins):
        inside = [
            (c, right)
            for c, (_, right) in zip(confidence, photos, strict=True)
            if k / num_bins < c - 1e-12 and c - 1e-12 <= (k + 1) / num_bins
        ]
        if inside:
            gap = np.mean([right for _, right in inside]) - np.mean([c for c, _ in inside])
            total += len(inside) / len(photos) * abs(gap)
    assert calibration.calibration_error(one, num_bins=num_bins) == pytest.approx(total, abs=1e-9)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 100))
def test_spans_of_equal_numbers_hold_every_photo_once(n: int, num_bins: int, seed: int) -> None:
    one = said(*honest(n, seed))
    curve = calibration.reliability(one, num_bins=num_bins, bins="mass")
    assert sum(part.num_photos for part in curve) == n
    assert max(part.num_photos for part in curve) - min(part.num_photos for part in curve) <= 2 + n // num_bins
    for part in curve:
        inside = (one.confidence > part.low) & (one.confidence <= part.high)
        assert inside.sum() == part.num_photos
        assert part.accuracy == pytest.approx(one.correct[inside].mean())


def test_chance_is_the_same_for_the_same_seed() -> None:
    one = said(*honest(100, 0))
    first = calibration.calibration_error_by_chance(one, simulations=100, seed=4)
    assert first == calibration.calibration_error_by_chance(one, simulations=100, seed=4)
    assert first != calibration.calibration_error_by_chance(one, simulations=100, seed=5)
    assert first.mean < first.high


def test_no_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="0 bins"):
        calibration.calibration_error(said(*honest(10, 0)), num_bins=0)
