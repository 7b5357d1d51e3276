import numpy as np
import pytest

from bintally import resampling, scores
from bintally.scores import Predictions


def counter(n: int, skill: float, seed: int, truth: np.ndarray | None = None) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, n) if truth is None else truth
    logits = random.normal(size=(n, 6)) + skill * np.eye(6)[labels]
    return Predictions(probabilities=scores.softmax(logits), true_counts=labels)


def test_intervals_agree_with_a_loop_over_drawn_groups() -> None:
    said = counter(60, 1.0, 0)
    groups = [str(k // 3) for k in range(60)]
    found = resampling.bootstrap(said, groups, resamples=4000, seed=1)
    whole = scores.figures(said)
    random = np.random.default_rng(2)
    draws = []
    for _ in range(1500):
        names = random.integers(0, 20, 20)
        picked = np.concatenate([np.arange(60)[3 * name : 3 * name + 3] for name in names])
        draws.append(scores.figures(said.where(picked)))
    for name, interval in found.items():
        assert interval.value == pytest.approx(whole[name])
        assert interval.low <= interval.value <= interval.high
        ends = np.quantile([one[name] for one in draws], [0.025, 0.975])
        width = ends[1] - ends[0]
        assert [interval.low, interval.high] == pytest.approx(ends.tolist(), abs=0.12 * width)


def test_photos_that_err_together_make_wider_intervals() -> None:
    said = counter(40, 1.0, 0)
    twice = said.where(np.repeat(np.arange(40), 4))
    alone = resampling.bootstrap(twice, [str(k) for k in range(160)])["accuracy"]
    together = resampling.bootstrap(twice, [str(k // 4) for k in range(160)])["accuracy"]
    assert together.value == alone.value
    assert (together.high - together.low) > 1.6 * (alone.high - alone.low)


def test_a_difference_is_paired() -> None:
    base = counter(400, 1.0, 0)
    noise = np.random.default_rng(5).random((400, 6)) * 0.01
    better = base.probabilities + noise + 0.01 * np.eye(6)[base.true_counts]
    other = Predictions(probabilities=better / better.sum(axis=1, keepdims=True), true_counts=base.true_counts)
    groups = [str(k // 2) for k in range(400)]
    gain = resampling.bootstrap_difference(other, base, groups)
    assert gain["nll"].high < 0  # clear, although the intervals of the two overlap
    one, two = (resampling.bootstrap(said, groups)["nll"] for said in (other, base))
    assert one.high > two.low
    assert gain["nll"].value == pytest.approx(one.value - two.value)
    same = resampling.bootstrap_difference(base, base, groups)
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in same.values())
    with pytest.raises(ValueError, match="same photos"):
        resampling.bootstrap_difference(counter(400, 1.0, 9), base, groups)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        values = {"share": (np.random.default_rng(seed).random(80) < 0.4).astype(float)}
        one = resampling.bootstrap_means(values, [str(k) for k in range(80)], resamples=400)["share"]
        hits += one.low <= 0.4 <= one.high
    assert 180 <= hits <= 200


def test_the_seed_decides() -> None:
    said, groups = counter(50, 1.0, 0), [str(k) for k in range(50)]
    first = resampling.bootstrap(said, groups, resamples=200, seed=1)
    assert first == resampling.bootstrap(said, groups, resamples=200, seed=1)
    assert first != resampling.bootstrap(said, groups, resamples=200, seed=2)


def test_one_group_and_wrong_groups() -> None:
    said = counter(5, 1.0, 0)
    one = resampling.bootstrap(said, ["a"] * 5)["accuracy"]
    assert one.low == one.value == one.high
    with pytest.raises(ValueError, match="4 groups for 5 photos"):
        resampling.bootstrap(said, ["a"] * 4)
