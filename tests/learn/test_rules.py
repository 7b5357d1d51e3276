"""Every debug rule by its name: on histories with nothing in them, and with the familiar thresholds."""

import dataclasses
from typing import get_args

import pytest

from bintally.learn.rules import RULES, RuleName
from tests.learn.histories import check, found


@pytest.mark.parametrize("name", RULES)
def test_nothing_recorded_is_no_finding(name: str) -> None:
    assert found(RULES[name]()) == []
    assert found(RULES[name](), check(), finished=True) == []


def test_names_of_rules_are_those_that_can_stop_a_run() -> None:
    assert set(get_args(RuleName)) == set(RULES)


def test_thresholds_are_the_familiar_ones() -> None:
    defaults = {name: dataclasses.asdict(rule()) for name, rule in RULES.items()}  # type: ignore[call-overload]
    assert defaults["VanishingGradient"] == {"threshold": 1e-7}
    assert defaults["LossNotDecreasing"] | {"floor": 0} == {"diff_percent": 0.1, "num_steps": 10, "floor": 0}
    assert defaults["Overtraining"] == {"patience_train": 5, "patience_validation": 10, "delta": 0.01}
    assert defaults["Confusion"] == {"min_diag": 0.9, "max_off_diag": 0.1}
    assert defaults["StalledTraining"] == {"threshold": 1800.0}
