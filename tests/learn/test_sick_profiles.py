"""Each profiler rule fires on its sickness in every seed, and none on a healthy profile."""

import pytest

from benchmarks.sick_profiles import CASES, matrix
from bintally.learn.profiler_rules import PROFILER_RULES


def test_there_is_a_sickness_for_every_rule_that_can_fire() -> None:
    assert {case.rule for case in CASES.values()} - {""} == set(PROFILER_RULES) - {"OverallSystemUsage"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.machine])
def test_what_fires_on_drawn_samples(name: str) -> None:
    found = matrix({name: CASES[name]})
    assert not found.broken(), str(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.machine])
def test_what_fires(name: str) -> None:
    found = matrix({name: CASES[name]})
    assert not found.broken(), str(found)
