"""The running average: what it is after some steps, and that the training does not notice it."""

import pytest
import torch

from bintally.counts import CountRange
from bintally.learn.average import Average
from bintally.learn.checkpoint import same_bits
from bintally.learn.model import CountModel, ModelSettings, build_model


def network(snapshot: str, unfrozen: int = 1) -> CountModel:
    torch.manual_seed(0)
    return build_model(ModelSettings(backbone=snapshot, unfrozen_stages=unfrozen), CountRange())


def shift(model: CountModel, by: float) -> None:
    with torch.no_grad():
        for value in model.trained_state().values():
            value.add_(by if value.is_floating_point() else 1)


def test_the_average_forgets_faster_at_first(snapshot: str) -> None:
    model = network(snapshot)
    start = model.head.bias.clone()
    average = Average(model, 0.5)
    for step, expected in ((1, 9 / 11), (2, 9 / 11 * 3 / 12 + 2 * 9 / 12)):
        shift(model, 1.0)
        average.update(step)
        torch.testing.assert_close(average.state["head.bias"], start + expected)
    for step in range(3, 60):  # from 8 steps on, a half of it stays
        shift(model, 1.0)
        average.update(step)
    torch.testing.assert_close(average.state["head.bias"], start + 58.0, rtol=0, atol=1e-3)


def test_the_model_holds_it_for_a_while_and_is_itself_again(snapshot: str) -> None:
    model = network(snapshot)
    average = Average(model, 0.9)
    shift(model, 1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.update(1)
    with average.in_place():
        assert same_bits(model.trained_state(), average.state)
        assert same_bits(average.trained, {name: before[name] for name in average.state})
    assert same_bits(model.state_dict(), before)
    assert same_bits(average.trained, model.trained_state())


def test_frozen_parts_are_not_in_it_and_counts_of_batches_are_not_averaged(snapshot: str) -> None:
    model = network(snapshot)
    average = Average(model, 0.9)
    assert not any("embedder.embedder" in name for name in average.state)
    counts = [name for name in average.state if name.endswith("num_batches_tracked")]
    assert counts
    shift(model, 1.0)
    average.update(1)
    assert all(torch.equal(average.state[name], model.state_dict()[name]) for name in counts)


def test_an_average_of_another_network_is_refused(snapshot: str) -> None:
    with pytest.raises(RuntimeError, match="another network"):
        Average(network(snapshot), 0.9).load(Average(network(snapshot, unfrozen=2), 0.9).state)


def test_a_stop_meanwhile_leaves_the_model_itself(snapshot: str) -> None:
    model = network(snapshot)
    average = Average(model, 0.9)
    shift(model, 1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    context = average.in_place()
    context.__enter__()
    assert not same_bits(model.state_dict(), before)
    assert not context.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert same_bits(model.state_dict(), before)
