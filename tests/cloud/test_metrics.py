import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.cloud.metrics import LARGER_IS_BETTER, METRICS, metric_line, read_metrics
from bintally.scores import Predictions, figures


def test_a_line_is_read_back() -> None:
    values = {"train:epoch": 3, "train:loss": 1.25, "validation:accuracy": 0.385, "validation:nll": 1e-07}
    line = metric_line(values)
    assert line == "metrics: train:epoch=3.0; train:loss=1.25; validation:accuracy=0.385; validation:nll=1e-07;"
    assert read_metrics(line) == values


@given(st.dictionaries(st.sampled_from(sorted(METRICS)), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_figure_survives_its_line(values: dict[str, float]) -> None:
    assert read_metrics(metric_line(values)) == values


def test_no_name_is_read_where_another_one_stands() -> None:
    for name in METRICS:
        assert set(read_metrics(metric_line({name: 0.5}))) == {name}


def test_what_is_no_number_is_left_out_and_unknown_names_are_refused() -> None:
    assert metric_line({"train:loss": math.nan, "train:nll": math.inf}) == "metrics:"
    with pytest.raises(ValueError, match=r"train:los$"):
        metric_line({"train:los": 1.0})


def test_every_figure_of_a_part_has_its_expression() -> None:
    found = figures(Predictions(probabilities=np.array([[0.5, 0.5]]), true_counts=np.array([1])))
    for part in ("validation", "test"):
        assert {f"{part}:{name}" for name in found} <= METRICS.keys()


def test_the_service_would_take_the_definitions() -> None:
    assert len(METRICS) <= 40
    assert METRICS.keys() >= LARGER_IS_BETTER
    for name, pattern in METRICS.items():
        assert len(name) <= 255
        assert len(pattern) <= 500
        assert re.compile(pattern).groups == 1


def test_foreign_expressions() -> None:
    assert read_metrics(
        "acc 0.5 loss x", {"a": r"acc ([0-9.]+)", "b": r"loss (\w)", "c": "acc", "d": "none (.)"}
    ) == {"a": 0.5}
