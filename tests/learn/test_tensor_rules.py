"""Each rule on numbers in the network at, above and below its threshold."""

import pytest

from bintally.learn import tensor_rules as r
from bintally.learn.history import TensorStats
from tests.learn.histories import check, found


def test_vanishing_gradient() -> None:
    stats = {
        "low": TensorStats(mean_abs=0.9e-7),
        "high": TensorStats(mean_abs=1.1e-7),
        "nan": TensorStats(finite=False),
    }
    assert [one.where for one in found(r.VanishingGradient(), check(gradients=stats))] == ["low"]


def test_exploding_tensor_sees_loss_gradients_weights_and_activations() -> None:
    bad = {"x": TensorStats(finite=False)}
    assert len(found(r.ExplodingTensor(), check(loss=None, gradients=bad, weights=bad, relu_inputs=bad))) == 4
    assert not found(r.ExplodingTensor(), check(gradients={"x": TensorStats(mean_abs=1e30)}))


def test_dead_relu() -> None:
    assert [one.where for one in found(r.DeadRelu(), check(dead_relus={"a": 0.5, "b": 0.51}))] == ["b"]


@pytest.mark.parametrize(("losses", "fires"), [((2.0, 2.0, 2.0, 2.0, 2.0), True), ((2.0, 1.9, 1.8, 1.7, 1.6), False)])
def test_poor_initialisation_needs_a_loss_that_stands(losses: tuple[float, ...], fires: bool) -> None:
    wide = {"a": TensorStats(variance=1.0), "b": TensorStats(variance=11.0)}
    checks = [check(step=n, loss=loss, relu_inputs=wide) for n, loss in enumerate(losses, start=1)]
    assert bool(found(r.PoorWeightInitialization(), *checks)) == fires
    close = {"a": TensorStats(variance=1.0), "b": TensorStats(variance=9.0)}
    assert not found(r.PoorWeightInitialization(), *(check(step=n, relu_inputs=close) for n in range(1, 8)))


def test_poor_initialisation_by_narrow_gradients_and_only_at_the_start() -> None:
    narrow = {"a": TensorStats(spread=1.0), "b": TensorStats(spread=1e-4)}
    assert found(r.PoorWeightInitialization(), *(check(step=n, gradients=narrow) for n in range(1, 6)))
    late = [check(step=n) for n in range(1, 11)] + [check(step=n, gradients=narrow) for n in range(11, 30)]
    assert not found(r.PoorWeightInitialization(), *late)


def test_weight_update_ratio() -> None:
    ratios = {"large": 10.1, "fine": 10.0, "small": 0.9e-8, "unknown": None}
    assert [one.where for one in found(r.WeightUpdateRatio(), check(updates=ratios))] == ["large", "small"]


def test_check_input_images() -> None:
    few = check(input_sum=30.0, input_values=100, input_photos=499)
    assert not found(r.CheckInputImages(), few)
    (one,) = found(r.CheckInputImages(), few, check(step=2, input_sum=0.3, input_values=1, input_photos=1))
    assert one.value == pytest.approx(0.3)
    assert not found(r.CheckInputImages(), check(input_sum=19.0, input_values=100, input_photos=500))
    assert not found(r.CheckInputImages(), check())  # training from kept activations shows no inputs
