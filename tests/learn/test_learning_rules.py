"""Each rule on how learning goes at, above and below its threshold."""

from bintally.learn import learning_rules as r
from bintally.learn.history import Validation
from tests.learn.histories import check, epochs, found


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


def test_stalled_training() -> None:
    assert found(r.StalledTraining(), check(seconds=1801.0))
    assert not found(r.StalledTraining(), check(seconds=1799.0))
    assert found(r.StalledTraining(), check(), idle=1801.0)
    assert not found(r.StalledTraining(), check(), idle=1801.0, finished=True)
