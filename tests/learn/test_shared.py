"""What trainings share is the same thing, and what one of them changes is its own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from bintally.learn.material import TrainingData
from bintally.learn.recipe import Recipe
from bintally.learn.shared import Shared
from bintally.pixels import PixelSpec


@pytest.fixture
def shared(make_manifest: Any) -> Iterator[Shared]:
    made = Shared(TrainingData.of(make_manifest()), several=True)
    yield made
    made.close()


@pytest.fixture
def frozen(tiny: Callable[..., Recipe], snapshot: str) -> Recipe:
    made = tiny()
    return replace(made, model=replace(made.model, backbone=snapshot, unfrozen_stages=0))


def test_a_frozen_backbone_is_shared_and_the_head_is_not(shared: Shared, frozen: Recipe) -> None:
    one, two = shared.model(frozen), shared.model(frozen)
    assert one.backbone is two.backbone
    assert one.head is not two.head
    assert torch.equal(one.head.weight, two.head.weight)  # of one seed
    other = shared.model(replace(frozen, train=replace(frozen.train, seed=5)))
    assert not torch.equal(one.head.weight, other.head.weight)


def test_a_backbone_that_is_trained_is_its_own(shared: Shared, frozen: Recipe, tiny: Callable[..., Recipe]) -> None:
    unfrozen = replace(frozen, model=replace(frozen.model, unfrozen_stages=1))
    models = [shared.model(recipe) for recipe in (unfrozen, frozen, unfrozen, tiny(), tiny())]
    assert len({id(model.backbone) for model in models}) == 5
    assert not any(parameter.requires_grad for parameter in models[1].backbone.parameters())
    assert any(parameter.requires_grad for parameter in models[2].backbone.parameters())


def test_photos_are_decoded_once_a_size(shared: Shared, frozen: Recipe) -> None:
    assert shared.parts(frozen) is shared.parts(replace(frozen, train=replace(frozen.train, head_lr=0.5)))
    assert shared.parts(frozen) is not shared.parts(replace(frozen, pixels=PixelSpec(size=16)))


def test_the_same_fabric_for_the_same_device(shared: Shared, frozen: Recipe) -> None:
    assert shared.fabric(frozen) is shared.fabric(frozen)
    bf16 = replace(frozen, train=replace(frozen.train, precision="bf16-mixed"))
    assert shared.fabric(frozen) is not shared.fabric(bf16)
