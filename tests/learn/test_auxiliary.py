"""Auxiliary targets: what is asked is there, what is not asked costs nothing."""

from collections.abc import Callable

import pytest
import torch

from bintally.data.manifest import Manifest
from bintally.learn.auxiliary import Auxiliary, AuxiliarySettings
from bintally.learn.material import TrainingData


@pytest.fixture
def data(make_manifest: Callable[..., Manifest]) -> TrainingData:
    return TrainingData.of(make_manifest(num=40, records=True))


def test_nothing_asked_is_nothing(data: TrainingData) -> None:
    assert Auxiliary.of(data, AuxiliarySettings()) is None


def test_records_that_are_not_there_are_no_targets(make_manifest: Callable[..., Manifest]) -> None:
    data = TrainingData.of(make_manifest(num=20))
    assert Auxiliary.of(data, AuxiliarySettings(record=1)) is None
    assert Auxiliary.of(data, AuxiliarySettings(record=1, changes=1)) is not None


@pytest.mark.parametrize(("record", "changes", "num"), [(1.0, 0.0, 8), (0.0, 1.0, 1), (1.0, 1.0, 9)])
def test_the_head_says_each_target(data: TrainingData, record: float, changes: float, num: int) -> None:
    made = Auxiliary.of(data, AuxiliarySettings(record=record, changes=changes))
    assert made is not None
    assert made.start.shape == (num,)  # of the words many, few, squares; five measures; one change
    told = made.start.repeat(8, 1).requires_grad_()
    loss = made.loss(told, torch.arange(8), mixed=False)
    loss.backward()
    assert torch.isfinite(loss)
    assert told.grad is not None
    assert bool(told.grad.any()) == bool(record)  # every photo of these is a bin of its own: nothing changed


def test_weights_are_weights_and_mixed_photos_have_no_changes(data: TrainingData) -> None:
    def loss(mixed: bool = False, **weights: float) -> float:
        made = Auxiliary.of(data, AuxiliarySettings(**weights))  # type: ignore[arg-type]
        assert made is not None
        one_bin = Auxiliary(
            settings=made.settings,
            record=made.record,
            changes=made.changes and type(made.changes)(labels=made.changes.labels, groups=made.changes.groups * 0),
        )
        return one_bin.loss(one_bin.start.repeat(8, 1), torch.arange(8), mixed=mixed).item()

    record, changes = loss(record=1.0), loss(changes=1.0)
    assert record > 0 < changes
    assert loss(record=0.5, changes=2.0) == pytest.approx(0.5 * record + 2 * changes)
    assert loss(mixed=True, record=0.5, changes=2.0) == pytest.approx(0.5 * record)
