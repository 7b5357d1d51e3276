import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.counts import CountDistribution, CountRange, Unreadable, distribution_of


@st.composite
def distributions(draw: st.DrawFn) -> CountDistribution:
    weights = draw(st.lists(st.integers(0, 20), min_size=1, max_size=12).filter(any))
    return CountDistribution(probabilities=tuple(weight / sum(weights) for weight in weights))


@given(distributions(), st.floats(0.01, 1.0))
def test_the_interval_is_the_shortest_run_that_holds_enough(one: CountDistribution, level: float) -> None:
    low, high = one.interval(level)
    p = one.probabilities
    held = math.fsum(p[low : high + 1])
    assert 0 <= low <= high < len(p)
    assert held >= level - 1e-8
    for start in range(len(p)):
        for end in range(start, len(p)):
            other = math.fsum(p[start : end + 1])
            if end - start < high - low:
                assert other < level + 1e-8
            if end - start == high - low:
                assert other <= held + 1e-12


def test_of_equally_good_runs_the_lowest_is_taken() -> None:
    assert CountDistribution(probabilities=(0.25, 0.25, 0.25, 0.25)).interval(0.5) == (0, 1)
    assert CountDistribution(probabilities=(0.0, 1.0)).interval(1.0) == (1, 1)


@pytest.mark.parametrize("level", [0.0, -0.1, 1.1, math.nan])
def test_a_level_that_is_none(level: float) -> None:
    with pytest.raises(ValueError, match="a level lies above 0"):
        CountDistribution(probabilities=(1.0,)).interval(level)


@given(distributions())
def test_likeliest_and_expected(one: CountDistribution) -> None:
    assert one.count == one.probabilities.index(max(one.probabilities))
    assert one.probability == max(one.probabilities)
    assert one.expected == pytest.approx(sum(n * p for n, p in enumerate(one.probabilities)))
    assert one.name(one.count) == str(one.count)


def test_an_open_class() -> None:
    one = CountDistribution(probabilities=(0.5, 0.0, 0.5), open_mean=6.0)
    assert one.expected == 3.0
    assert (one.name(2), one.name(1)) == ("2+", "1")
    assert one.count == 0  # the smaller one of a tie


@pytest.mark.parametrize(
    ("probabilities", "mean", "what"),
    [
        ((), None, "at least one"),
        ((0.5, 0.6), None, "sum to 1"),
        ((math.nan, 1.0), None, "lie in 0..1"),
        ((-0.5, 1.5), None, "lie in 0..1"),
        ((0.5, 0.5), 0.5, "its mean is not"),
    ],
)
def test_a_distribution_that_exists_is_valid(probabilities: tuple[float, ...], mean: float | None, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        CountDistribution(probabilities=probabilities, open_mean=mean)


def test_ranges() -> None:
    full = CountRange(lowest=0, highest=10, open_ended=True)
    assert (full.num_classes, str(full), full.name(10), full.name(3)) == (11, "0-10+", "10+", "3")
    assert [full.class_of(count) for count in (0, 10, 99)] == [0, 10, 10]
    course = CountRange(lowest=1, highest=5)
    assert (course.num_classes, str(course), course.name(5)) == (5, "1-5", "5")
    assert [course.class_of(count) for count in (0, 1, 5, 6)] == [None, 0, 4, None]
    for low, high in ((-1, 5), (5, 5), (6, 5)):
        with pytest.raises(ValueError, match="a range of counts"):
            CountRange(lowest=low, highest=high)


def test_distribution_of_logits() -> None:
    course = distribution_of([0.0, math.log(3.0)], CountRange(lowest=1, highest=2))
    assert course.probabilities == pytest.approx((0.0, 0.25, 0.75))
    assert course.open_mean is None
    softer = distribution_of([0.0, math.log(9.0)], CountRange(lowest=1, highest=2), temperature=2.0)
    assert softer.probabilities == pytest.approx((0.0, 0.25, 0.75))
    many = distribution_of([1e4, -1e4], CountRange(highest=1, open_ended=True), 0.1, 7.5)
    assert (many.probabilities, many.open_mean) == ((1.0, 0.0), 7.5)
    assert distribution_of([0.0, 0.0], CountRange(highest=1, open_ended=True)).open_mean == 1.0


@pytest.mark.parametrize("logits", [[0.0], [0.0, math.nan], [0.0, math.inf]])
def test_logits_that_are_no_answer(logits: list[float]) -> None:
    with pytest.raises(ValueError, match="2 finite logits"):
        distribution_of(logits, CountRange(highest=1))


def test_values_do_not_change() -> None:
    bad = Unreadable(reason="the file is empty")
    with pytest.raises(AttributeError):
        bad.reason = "other"  # type: ignore[misc]
