import math

import numpy as np
import pytest

from bintally.learn.agreement import Agreement, Limits, breaches, compare

RANDOM = np.random.default_rng(0)


def test_the_same_logits_agree_in_full() -> None:
    logits = RANDOM.normal(size=(20, 6)).astype(np.float32)
    found = compare(logits, logits.copy(), RANDOM.integers(0, 6, 20), temperature=1.3)
    assert found == Agreement(num_photos=20, difference=0, changed=0, loss=0, loss_error=0, accuracy_change=0)
    assert breaches(found, Limits(difference=0, changed=0, loss=0), "float32") == []


def test_what_differs_is_told_in_its_own_unit() -> None:
    trained = np.log(np.array([[0.6, 0.4], [0.6, 0.4]], dtype=np.float32))
    exported = np.log(np.array([[0.4, 0.6], [0.6, 0.4]], dtype=np.float32))
    found = compare(trained, exported, [0, 0])
    assert found.difference == pytest.approx(0.2, abs=1e-6)
    assert found.changed == 0.5
    assert found.loss == pytest.approx(math.log(0.6 / 0.4) / 2, abs=1e-6)
    assert found.accuracy_change == -0.5
    told = breaches(found, Limits(difference=0.1, changed=0.4, loss=0.1), "int8 in OpenVINO")
    assert len(told) == 3
    assert told[1] == "int8 in OpenVINO: 50.0% of the likeliest counts change over 2 photos; at most 40.0% may"
    assert breaches(found, Limits(), "int8") == []


def test_a_temperature_of_its_own_counts() -> None:
    trained = RANDOM.normal(size=(50, 3)).astype(np.float32)
    doubled = compare(trained, trained * 2, RANDOM.integers(0, 3, 50), temperature=1.0, exported_temperature=2.0)
    assert doubled.difference < 1e-6


def test_not_a_number_breaks_every_limit() -> None:
    logits = RANDOM.normal(size=(4, 3)).astype(np.float32)
    broken = logits.copy()
    broken[0, 0] = np.nan
    with np.errstate(invalid="ignore"):
        found = compare(logits, broken, [0, 1, 2, 0])
    assert breaches(found, Limits(difference=1.0), "float32")


@pytest.mark.parametrize(("other", "classes"), [((3, 2), [0, 1]), ((2, 2), [0]), ((2, 3), [0, 1])])
def test_what_cannot_be_compared_is_refused(other: tuple[int, int], classes: list[int]) -> None:
    with pytest.raises(ValueError, match="no comparison"):
        compare(np.zeros((2, 2), np.float32), np.zeros(other, np.float32), classes)


def test_no_photos_are_no_agreement() -> None:
    with pytest.raises(ValueError, match="no comparison"):
        compare(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), [])
