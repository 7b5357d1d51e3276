"""Records of a watched training: values, named by who finds something in them."""

import dataclasses

import pytest

from bintally.learn.history import Check, finding
from bintally.learn.tensor_rules import DeadRelu


def test_a_finding_names_its_rule() -> None:
    found = finding(DeadRelu(), 50, "stage.1", 0.8, 0.5, "80% dead")
    assert (found.rule, found.step, found.where, found.value, found.threshold) == (
        "DeadRelu",
        50,
        "stage.1",
        0.8,
        0.5,
    )


def test_a_record_is_not_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Check(step=1, epoch=1, loss=1.0, mean_loss=1.0).step = 2  # type: ignore[misc]
