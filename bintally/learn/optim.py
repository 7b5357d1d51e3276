"""How weights move: the optimizer over head and backbone, and the course over time of learning rates and photo sizes."""

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bintally.learn.model import CountModel
from bintally.learn.recipe import Schedule, TrainSettings


def make_optimizer(model: CountModel, settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer over everything that is not frozen; each group keeps its own highest rate as "peak_lr"."""
    groups: list[dict[str, Any]] = []
    for modules, rate in _modules_and_rates(model, settings):
        trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        for parameters, decay in (
            ([p for p in trained if p.ndim > 1], settings.weight_decay),
            ([p for p in trained if p.ndim <= 1], 0.0),
        ):
            if parameters:
                groups.append({"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay})
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9)
    # Fused: one pass over the weights and not ten. It asks that state and weights lie in memory alike: see `restore`.
    return (torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam)(groups, fused=True)


def _modules_and_rates(model: CountModel, settings: TrainSettings) -> list[tuple[Sequence[nn.Module], float]]:
    """The heads first, then the backbone: as a whole, or the last stage first, each at its own rate."""
    share, parts = settings.stage_lr_decay, model.trained_parts
    heads = [model.head] if model.auxiliary is None else [model.head, model.auxiliary]
    if share == 1:
        return [(heads, settings.head_lr), (parts, settings.backbone_lr)]
    staged = [([part], settings.backbone_lr * share**depth) for depth, part in enumerate(reversed(parts))]
    return [(heads, settings.head_lr), *staged]


def rate_factor(step: int, total: int, schedule: Schedule, warmup: float) -> float:
    """What the learning rates are multiplied with at a step.

    Args:
        step: from 0.
        total: steps of the whole training.
        schedule: see `TrainSettings`.
        warmup: share of the steps over which the rate rises.

    Returns:
        0..1. "one-cycle" is that of Smith & Topin 2018 (https://arxiv.org/abs/1708.07120), with cosine flanks.
    """
    cycle = schedule == "one-cycle"
    rise = total * (warmup or (0.3 if cycle else 0.0))
    if step < rise:
        share = (step + 1) / rise if rise >= 1 else 1.0
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * min(share, 1.0))) / 2 if cycle else min(share, 1.0)
    if schedule == "constant":
        return 1.0
    return (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise))) / 2


def side_of(epoch: int, epochs: int, start: int, full: int) -> int:
    """The side in pixels at which an epoch sees its photos.

    Args:
        epoch: from 0.
        epochs: of the whole training.
        start: side of the first one; nothing smaller than `full` or nothing at all leaves it at `full`.
        full: side of the last one.

    Returns:
        From `start` evenly up to `full`, in steps of 32 as strides ask; `full` itself need not be such a step.
    """
    if not start or start >= full or epochs < 2:
        return full
    share = min(epoch / (epochs - 1), 1.0)
    return full if share == 1 else min(full, max(start, 32 * round((start + share * (full - start)) / 32)))


def step_side(settings: TrainSettings, epoch: int, step: int, full: int) -> int:
    """The side in pixels at which a step sees its photos: drawn of `sizes`, or grown with the epochs, or the full one.

    Args:
        settings: of the training.
        epoch: from 0.
        step: from 0, over the whole training; every process draws the same side for it.
        full: the side that photos have.
    """
    if settings.sizes:
        return random.Random(f"{settings.seed} {step}").choice(settings.sizes)
    return side_of(epoch, settings.epochs, settings.start_size, full)
