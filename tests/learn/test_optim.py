"""How weights move: groups and the learning rate's course."""

from dataclasses import replace

import pytest
import torch

from bintally.counts import CountRange
from bintally.learn.model import ModelSettings, build_model
from bintally.learn.optim import make_optimizer, rate_factor, side_of, step_side
from bintally.learn.recipe import TrainSettings


def test_courses() -> None:
    def course(schedule: str, warmup: float = 0.0) -> list[float]:
        return [rate_factor(step, 100, schedule, warmup) for step in range(100)]  # type: ignore[arg-type]

    assert course("constant") == [1.0] * 100
    warm = course("constant", 0.1)
    assert warm[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert set(warm[10:]) == {1.0}
    cosine = course("cosine")
    assert cosine[0] == 1.0
    assert cosine[50] == pytest.approx(0.5)
    assert cosine == sorted(cosine, reverse=True)
    assert 0 < cosine[-1] < 0.001
    cycle = course("one-cycle")
    assert cycle[0] == pytest.approx(1 / 25, abs=0.01)
    assert max(cycle) == 1.0
    assert cycle.index(1.0) == 29
    assert cycle[-1] < 0.001
    assert all(0 < one <= 1 for one in [*cycle, *course("one-cycle", 0.5), *course("cosine", 0.2)])


def test_short_trainings_have_a_course_too() -> None:
    for schedule in ("constant", "cosine", "one-cycle"):
        for total in (1, 2, 3):
            factors = [rate_factor(step, total, schedule, 0.1) for step in range(total)]  # type: ignore[arg-type]
            assert all(0 < one <= 1 for one in factors)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_head_and_backbone_have_their_rates_and_norms_no_decay(kind: str) -> None:
    model = build_model(ModelSettings(backbone="tiny"), CountRange())
    settings = TrainSettings(optimizer=kind, head_lr=0.5, backbone_lr=0.25, weight_decay=0.1)  # type: ignore[arg-type]
    groups = make_optimizer(model, settings).param_groups
    by_id = {id(p): group for group in groups for p in group["params"]}
    assert len(by_id) == sum(p.requires_grad for p in model.parameters())
    for name, p in model.named_parameters():
        group = by_id[id(p)]
        assert group["lr"] == group["peak_lr"] == (0.5 if name.startswith("head") else 0.25)
        assert group["weight_decay"] == (0.1 if p.ndim > 1 else 0.0)


def test_each_stage_learns_at_a_share_of_the_next_one_s_rate(snapshot: str) -> None:
    model = build_model(ModelSettings(backbone=snapshot, unfrozen_stages=3), CountRange())
    settings = TrainSettings(head_lr=0.5, backbone_lr=0.1, stage_lr_decay=0.5)
    groups = make_optimizer(model, settings).param_groups
    rates = {id(p): group["peak_lr"] for group in groups for p in group["params"]}
    assert groups[0]["peak_lr"] == 0.5
    for name, p in model.named_parameters():
        if name.startswith("head"):
            assert rates[id(p)] == 0.5
        elif name.startswith("backbone.encoder.stages"):
            assert rates[id(p)] == pytest.approx(0.1 * 0.5 ** (2 - int(name.split(".")[3])))
        else:
            assert id(p) not in rates


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_fused_steps_are_the_plain_ones_in_any_memory_order(kind: str) -> None:
    """A fused optimizer goes through weights, gradients and state as they lie: all must lie alike."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    models = []
    for fused in (True, False):
        torch.manual_seed(0)
        model = build_model(ModelSettings(backbone="tiny"), CountRange()).train()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings = TrainSettings(optimizer=kind, head_lr=1e-3, backbone_lr=1e-3)  # type: ignore[arg-type]
        optimizer = (
            make_optimizer(model, settings) if fused else kinds[kind](model.parameters(), lr=1e-3, weight_decay=0)
        )
        for step in range(3):
            torch.manual_seed(step)
            x = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(x).float().square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        models.append(dict(model.named_parameters()))
    for name, value in models[0].items():
        # Adam's first steps are as long as the rate whatever the gradient: a wrong order would be off by 1e-3.
        assert (value - models[1][name]).abs().mean() < 1e-4, name


def test_photos_grow_in_steps_of_a_stride_to_full_size() -> None:
    assert [side_of(epoch, 8, 128, 224) for epoch in range(8)] == [128, 128, 160, 160, 192, 192, 224, 224]
    assert {side_of(epoch, 5, 0, 224) for epoch in range(5)} == {224}
    assert {side_of(epoch, 5, 300, 224) for epoch in range(5)} == {224}
    assert side_of(0, 1, 64, 224) == 224  # a training of one epoch ends with it
    assert [side_of(epoch, 3, 100, 110) for epoch in range(3)] == [100, 100, 110]


def test_a_step_s_side_is_drawn_by_seed_and_step_alone() -> None:
    drawn = TrainSettings(sizes=(96, 128, 160))
    sides = [step_side(drawn, step // 10, step, 224) for step in range(300)]
    assert sides == [step_side(drawn, 0, step, 32) for step in range(300)]
    assert all(70 < sides.count(side) < 130 for side in (96, 128, 160))  # a hundred each, give or take four sigma
    assert sides != [step_side(replace(drawn, seed=1), 0, step, 224) for step in range(300)]
    assert step_side(TrainSettings(epochs=3, start_size=128), 1, 7, 224) == side_of(1, 3, 128, 224) == 192
    assert step_side(TrainSettings(), 0, 0, 224) == 224


def test_a_head_for_auxiliary_targets_learns_at_the_head_s_rate(snapshot: str) -> None:
    model = build_model(ModelSettings(backbone=snapshot, unfrozen_stages=1), CountRange())
    model.teach_beside(torch.zeros(3))
    groups = make_optimizer(model, TrainSettings(head_lr=0.5, backbone_lr=0.1)).param_groups
    rates = {id(p): group["peak_lr"] for group in groups for p in group["params"]}
    assert model.auxiliary is not None
    assert rates[id(model.auxiliary.weight)] == rates[id(model.auxiliary.bias)] == 0.5
