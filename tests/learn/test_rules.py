"""Each rule at, above and below its threshold, and on histories with nothing in them."""

import dataclasses
from typing import get_args

import pytest

from bintally.learn import rules as r
from bintally.learn.rules import RULES, Check, Finding, History, Rule, RuleName, TensorStats, Validation


def check(step: int = 1, loss: float | None = 1.0, **fields: object) -> Check:
    return Check(step=step, epoch=1, loss=loss, mean_loss=loss, **fields)  # type: ignore[arg-type]


def found(rule: Rule, *checks: Check, validations: tuple[Validation, ...] = (), **rest: object) -> list[Finding]:
    return list(rule.findings(History(checks=checks, validations=validations, **rest)))  # type: ignore[arg-type]


def epochs(*losses: tuple[float | None, float | None]) -> tuple[Validation, ...]:
    return tuple(
        Validation(step=10 * n, epoch=n, train_loss=train, loss=validation)
        for n, (train, validation) in enumerate(losses, start=1)
    )


@pytest.mark.parametrize("name", RULES)
def test_nothing_recorded_is_no_finding(name: str) -> None:
    assert found(RULES[name]()) == []
    assert found(RULES[name](), check(), finished=True) == []


def test_names_of_rules_are_those_that_can_stop_a_run() -> None:
    assert set(get_args(RuleName)) == set(RULES)


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


def test_loss_not_decreasing() -> None:
    rule = r.LossNotDecreasing()
    assert not found(rule, *(check(step=n, loss=1.0) for n in range(10)))  # ten steps back there is nothing yet
    (one,) = found(rule, *(check(step=n, loss=1.0) for n in range(11)))
    assert (one.step, one.value) == (10, 0.0)
    assert not found(rule, *(check(step=n, loss=1.0 - 0.001 * n) for n in range(11)))
    assert not found(rule, *(check(step=n, loss=0.05) for n in range(30)))  # at the floor


def test_overfit() -> None:
    fires = found(r.Overfit(), validations=epochs((1.0, 1.09), (1.0, 1.11), (None, 3.0)))
    assert [one.step for one in fires] == [20]
    assert not found(r.Overfit(patience=2), validations=epochs((1.0, 2.0), (1.0, 1.0), (1.0, 2.0)))


def test_overtraining() -> None:
    still = epochs(*[(1.0, 1.0)] * 11)
    assert {one.where for one in found(r.Overtraining(), validations=still)} == {"training loss", "validation loss"}
    assert found(r.Overtraining(), validations=still)[0].step == 60
    falling = epochs(*[(1.0 - 0.02 * n, 1.0 - 0.02 * n) for n in range(12)])
    assert not found(r.Overtraining(), validations=falling)


def test_class_imbalance_waits_for_its_labels() -> None:
    rule = r.ClassImbalance()
    assert not found(rule, check(labels=(440, 40)))
    assert found(rule, check(labels=(440, 40)), check(step=2, labels=(30, 0)))[0].step == 2
    assert not found(rule, check(labels=(500, 50)))
    assert found(rule, check(labels=(500, 0)))[0].value == 1000.0


def test_class_imbalance_and_the_class_that_suffers() -> None:
    last = Validation(step=9, epoch=1, train_loss=1.0, loss=1.0, confusion=((90, 10), (8, 2)))
    where = [
        one.where for one in found(r.ClassImbalance(), check(labels=(540, 60)), validations=(last,), finished=True)
    ]
    assert where == ["class 1"]
    even = found(r.ClassImbalance(), check(labels=(300, 300)), validations=(last,), finished=True)
    assert even == []


def test_confusion_only_at_the_end() -> None:
    last = Validation(step=9, epoch=1, train_loss=1.0, loss=1.0, confusion=((89, 11, 0), (0, 90, 10), (0, 0, 0)))
    assert [one.where for one in found(r.Confusion(), validations=(last,), finished=True)] == [
        "class 0",
        "class 0 as 1",
    ]
    assert not found(r.Confusion(), validations=(last,))


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


def test_stalled_training() -> None:
    assert found(r.StalledTraining(), check(seconds=1801.0))
    assert not found(r.StalledTraining(), check(seconds=1799.0))
    assert found(r.StalledTraining(), check(), idle=1801.0)
    assert not found(r.StalledTraining(), check(), idle=1801.0, finished=True)


def test_thresholds_are_the_familiar_ones() -> None:
    defaults = {name: dataclasses.asdict(rule()) for name, rule in RULES.items()}  # type: ignore[call-overload]
    assert defaults["VanishingGradient"] == {"threshold": 1e-7}
    assert defaults["LossNotDecreasing"] | {"floor": 0} == {"diff_percent": 0.1, "num_steps": 10, "floor": 0}
    assert defaults["Overtraining"] == {"patience_train": 5, "patience_validation": 10, "delta": 0.01}
    assert defaults["Confusion"] == {"min_diag": 0.9, "max_off_diag": 0.1}
    assert defaults["StalledTraining"] == {"threshold": 1800.0}
