"""Which levers the measured shares justify, and what they promise."""

import dataclasses
from typing import Any

import pytest

from bintally.learn.levers import Lever, Measured, choose
from bintally.learn.recipe import Recipe, read_recipe

NOTHING = Measured(
    shares={"waiting": 0.0, "to_device": 0.01, "forward": 0.39, "backward": 0.55, "optimizer": 0.05},
    cores=4,
    threads=4,
    workers=4,
    in_memory=True,
    cache_mb=100,
    free_mb=10_000,
    precision="bf16-mixed",
    native_bf16=True,
    kept=False,
    num_frozen=0,
    frozen_share=0.0,
)
WAITS = {"waiting": 0.5, "to_device": 0.0, "forward": 0.2, "backward": 0.28, "optimizer": 0.02}


def recipe(**train: Any) -> Recipe:
    return read_recipe(None, {"train": {"channels_last": True, **train}}, environ={})


def levers(measured: Measured, **train: Any) -> dict[str, Lever]:
    return {lever.name: lever for lever in choose(recipe(**train), measured)}


def but(**changes: Any) -> Measured:
    return dataclasses.replace(NOTHING, **changes)


def test_a_training_that_lacks_nothing_gets_no_advice() -> None:
    assert levers(NOTHING) == {}


def test_waiting_asks_for_workers_and_for_memory() -> None:
    found = levers(but(shares=WAITS, in_memory=False))
    assert list(found) == ["cache", "workers"], "the greatest gain first"
    assert found["workers"].expected == pytest.approx(1 / 0.75)
    assert found["workers"].flags == ["--set train.workers=8"]
    assert found["cache"].applied(recipe()).train.cache_mb == 101
    assert "cache" not in levers(but(shares=WAITS, in_memory=False, free_mb=150)), "it would not fit"
    assert "cache" not in levers(but(shares=WAITS)), "it is in memory already"


def test_waiting_of_a_tenth_is_the_least() -> None:
    little = {**WAITS, "waiting": 0.09}
    assert "workers" not in levers(but(shares=little, in_memory=False))


def test_computing_asks_for_bf16_channels_last_and_threads() -> None:
    found = levers(but(precision="32-true", threads=1), channels_last=False)
    assert list(found) == ["threads", "precision bf16", "channels_last"]
    assert found["channels_last"].flags == ["--set train.channels_last=true"]
    assert found["precision bf16"].expected == pytest.approx(1 / (1 - 0.94 + 0.94 / 1.75))
    assert "precision bf16" not in levers(but(precision="32-true", native_bf16=False))


def test_frozen_parts_ask_to_be_kept() -> None:
    frozen = but(num_frozen=5, frozen_share=1.0)
    found = levers(frozen)["keep_activations"]
    assert found.expected == pytest.approx(1 / (1 - 0.39))
    assert found.changes_training == ""
    assert "keep_activations" not in levers(dataclasses.replace(frozen, kept=True))
    assert "keep_activations" not in levers(frozen, start_size=128)  # kept photos have one size: it would be refused
    turned = read_recipe(None, {"augment": {"shift": 0.1}}, environ={})
    (other,) = choose(turned, frozen)
    assert "shift" in other.changes_training


def test_small_batches_and_idle_gpus_ask_for_larger_ones() -> None:
    assert levers(NOTHING, batch_size=4)["batch size"].flags == ["--set train.batch_size=8"]
    assert "batch size" in levers(but(gpu_p95=30.0))
    assert "batch size" not in levers(but(gpu_p95=95.0))
