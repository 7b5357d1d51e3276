"""Each rule fires on its sickness in every seed, and none on a healthy run."""

import pytest
import torch

from benchmarks.sick import HEALTHY, SICK, matrix
from bintally.learn.rules import RULES


def test_there_is_a_sickness_for_every_rule() -> None:
    assert {case.rule for case in SICK.values()} == set(RULES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HEALTHY, *SICK])
def test_what_fires(name: str) -> None:
    torch.set_num_threads(1)
    found = matrix({name: (HEALTHY | SICK)[name]})
    assert not found.broken(), str(found)
