"""Figures of tensors are those of the plain formulas, whatever the memory order; what is not finite is told."""

import math

import numpy as np
import pytest
import torch

from bintally.learn.history import TensorStats
from bintally.learn.readings import change, fetched, measured, stats_of

VALUES = torch.randn(8, 6, 5, 3, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.002


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_figures_are_those_of_the_formulas(order: torch.memory_format) -> None:
    tensor = VALUES.contiguous(memory_format=order)
    (found,) = stats_of({"it": measured(tensor, spread=True)}).values()
    plain = VALUES.numpy().astype(np.float64)
    assert found.mean_abs == pytest.approx(np.abs(plain).mean(), rel=1e-5)
    assert found.variance == pytest.approx(plain.var(), rel=1e-5)
    low, high = np.quantile(plain, [0.05, 0.95])
    assert found.spread == pytest.approx(high - low, rel=0.02)
    assert found.finite


def test_a_slice_and_half_precision_are_measured_too() -> None:
    whole = stats_of({"it": measured(VALUES[:, ::2].to(torch.bfloat16))})["it"]
    assert whole.mean_abs == pytest.approx(float(VALUES[:, ::2].abs().mean()), rel=0.01)
    assert whole.spread is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_not_finite_is_found(bad: float) -> None:
    tensor = VALUES.clone()
    tensor[3, 2, 1, 0] = bad
    assert stats_of({"it": measured(tensor, spread=True)}) == {"it": TensorStats(finite=False)}


def test_percentiles_of_many_values_are_of_some_of_them() -> None:
    many = torch.linspace(0, 1, 1_000_001)
    assert stats_of({"it": measured(many, spread=True)})["it"].spread == pytest.approx(0.9, abs=0.001)


def test_nothing_and_one_value_are_measured() -> None:
    found = stats_of({"nothing": measured(torch.empty(0)), "one": measured(torch.tensor([-2.0]), spread=True)})
    assert found["nothing"] == TensorStats(mean_abs=0.0, variance=0.0)
    assert found["one"] == TensorStats(mean_abs=2.0, variance=0.0, spread=0.0)


def test_a_change_is_held_against_the_size_before() -> None:
    after = (VALUES * 1.5).contiguous(memory_format=torch.channels_last)
    assert float(change(VALUES, after)) == pytest.approx(0.5, rel=1e-5)
    assert float(change(torch.zeros(3), torch.ones(3))) == pytest.approx(1e9)


def test_figures_are_fetched_by_name() -> None:
    assert fetched({}) == {}
    assert fetched({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}) == {"a": [1.0], "b": [2.0]}
