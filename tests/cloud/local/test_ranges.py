import collections
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.cloud.local.ranges import Range, read_ranges
from bintally.cloud.local.wire import ServiceError

UNIT = st.floats(0, 1)


@given(UNIT, st.sampled_from(["Auto", "Linear", "Logarithmic", "ReverseLogarithmic"]))
def test_there_and_back(unit: float, scaling: Any) -> None:
    one = Range(name="x", low=0.001, high=0.999, scaling=scaling)
    value = one.value(unit)
    assert 0.001 <= float(value) <= 0.999
    assert one.unit(value) == pytest.approx(unit, abs=1e-6)


@given(UNIT, st.integers(-5, 50), st.integers(0, 100), st.sampled_from(["Auto", "Linear", "Logarithmic"]))
def test_whole_numbers_stay_in_their_range(unit: float, low: int, span: int, scaling: Any) -> None:
    if scaling == "Logarithmic" and low <= 0:
        low = 1
    one = Range(name="n", low=low, high=low + span, whole=True, scaling=scaling)
    value = one.value(unit)
    assert low <= int(value) <= low + span
    assert one.value(one.unit(value)) == value


def test_where_values_are_dense() -> None:
    def middle(**facts: Any) -> float:
        return float(Range(name="x", **facts).value(0.5))

    assert middle(low=1e-4, high=1e-2, scaling="Logarithmic") == pytest.approx(1e-3)
    assert middle(low=1e-4, high=1e-2, scaling="Linear") == pytest.approx(5.05e-3)
    assert middle(low=1e-4, high=1e-2, scaling="Auto") == pytest.approx(1e-3)
    assert middle(low=1, high=9, scaling="Auto") == pytest.approx(5)
    assert middle(low=0.9, high=0.999, scaling="ReverseLogarithmic") == pytest.approx(0.99)


def test_the_ends_of_whole_numbers_are_as_likely_as_the_rest() -> None:
    one = Range(name="n", low=0, high=3, whole=True)
    counts = collections.Counter(one.value((number + 0.5) / 400) for number in range(400))
    assert set(counts.values()) == {100}


def test_choices() -> None:
    one = Range(name="c", values=("a", "b"))
    assert [one.value(unit) for unit in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "b"]
    assert one.value(one.unit("b")) == "b"
    with pytest.raises(ValueError, match="lies outside"):
        Range(name="x", low=0, high=1).unit("2")


def numbers(low: str, high: str, scaling: str = "Auto", name: str = "x") -> dict[str, str]:
    return {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scaling}


def test_read() -> None:
    found = read_ranges(
        {
            "CategoricalParameterRanges": [{"Name": "c", "Values": ["a"]}],
            "IntegerParameterRanges": [numbers("1", "8", name="n")],
            "ContinuousParameterRanges": [numbers("1e-4", "1e-1", "Logarithmic")],
        }
    )
    assert [(one.name, one.whole, one.low) for one in found] == [
        ("c", False, 0.0),
        ("n", True, 1),
        ("x", False, 1e-4),
    ]
    assert math.isclose(found[2].high, 0.1)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"ContinuousParameterRanges": [numbers("0", "1", "Logarithmic")]}, "needs a range above 0"),
        ({"ContinuousParameterRanges": [numbers("0", "1", "ReverseLogarithmic")]}, "0 <= x < 1"),
        ({"ContinuousParameterRanges": [numbers("2", "1")]}, "must not exceed"),
        ({"ContinuousParameterRanges": [numbers("a", "1")]}, "must each be a number"),
        ({"IntegerParameterRanges": [numbers("1.5", "2")]}, "must each be a whole number"),
        ({"ContinuousParameterRanges": [numbers("0", "1"), numbers("0", "2")]}, "more than one range"),
        ({"AutoParameters": [{"Name": "x", "ValueHint": "1"}]}, "no AutoParameters"),
        ({}, "nothing that varies"),
    ],
)
def test_what_makes_no_sense(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ServiceError, match=says):
        read_ranges(parameters)
