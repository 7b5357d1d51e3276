"""What changed between photos of one bin: pairs within a batch, differences alone, large ones bounded."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bintally.learn.changes import MOST, Changes, numbered


def changes(labels: list[int], groups: list[str]) -> Changes:
    return Changes.of(np.array(labels, dtype=np.int64), groups)


def test_only_photos_of_one_bin_are_held_against_each_other() -> None:
    made = changes([3, 4, 9, 1], ["a", "a", "b", "a"])
    told = torch.tensor([3.0, 4.0, -50.0, 1.0])
    assert made.loss(told, torch.arange(4)) == 0
    assert made.loss(told[[0, 2]], torch.tensor([0, 2])) == 0  # no pair
    off = told + torch.tensor([0.0, 1.0, 0.0, 0.0])
    # Three pairs, two of them with the photo that is said to hold one more: half of 1² each.
    assert made.loss(off, torch.arange(4)).item() == pytest.approx(2 * 0.5 / 3)


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abcd")), min_size=1, max_size=12), st.floats(-99, 99))
def test_a_common_error_costs_nothing_and_large_changes_are_bounded(
    photos: list[tuple[int, str]], shift: float
) -> None:
    labels, groups = [label for label, _ in photos], [group for _, group in photos]
    made, places = changes(labels, groups), torch.arange(len(photos))
    told = torch.tensor(labels, dtype=torch.float32)
    assert torch.allclose(made.loss(told, places), made.loss(told + shift, places), atol=1e-3)
    assert made.loss(torch.zeros(len(photos)), places) <= MOST - 0.5  # of Huber's, who says nothing


def test_no_gradient_and_no_division_by_zero_without_pairs() -> None:
    told = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = changes([1, 2], ["a", "b"]).loss(told, torch.arange(2))
    loss.backward()
    assert told.grad is not None
    assert told.grad.tolist() == [0, 0]


def test_groups_are_numbered_as_they_come() -> None:
    assert numbered(["x", "a", "x", "b"]).tolist() == [0, 1, 0, 2]
