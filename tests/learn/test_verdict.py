"""Better, or lucky: the verdict over photos and seeds."""

from typing import Any

import numpy as np
import pytest

from bintally.learn.verdict import judge

N = 400
GROUPS = [f"g{n // 2}" for n in range(N)]


def trained(
    trial: int | None, gain: float, seed: int, *, by_seed: float = 0.0, failed: bool = False
) -> dict[str, Any]:
    hard = np.random.default_rng(0).gamma(2.0, 0.7, N)
    luck = np.random.default_rng((seed, trial or 0)).normal(0, 0.2, N)
    nll = hard - gain + luck + by_seed * (-1) ** seed
    figures = {} if failed else {"nll": float(nll.mean()), "accuracy": float(-nll.mean())}
    return {"trial": trial, "seed": seed, "figures": figures, "per_photo": [] if failed else nll.tolist()}


def repeats(*candidates: tuple[int | None, float], **other: Any) -> list[dict[str, Any]]:
    return [trained(trial, gain, seed, **other) for seed in (1, 2, 3) for trial, gain in candidates]


@pytest.mark.parametrize("objective", ["nll", "accuracy"])
def test_what_is_clearly_better_wins(objective: str) -> None:
    found = judge(repeats((None, 0.0), (4, 0.3), (7, 0.1)), GROUPS, objective)
    assert found["winner"] == 4
    assert not found["within_noise"]
    assert found["difference"]["value"] == pytest.approx(-0.3, abs=0.03)
    assert found["difference"]["low"] < -0.3 + 0.03 < found["difference"]["high"] + 0.06
    assert "better than by chance" in found["said"]


def test_a_hair_better_is_within_noise() -> None:
    found = judge(repeats((None, 0.0), (4, 0.002)), GROUPS, "nll")
    if found["winner"] is None:
        assert "stays as it was" in found["said"]
    else:
        assert "within noise" in found["said"]
    assert found["within_noise"]


def test_better_by_one_lucky_seed_is_within_noise() -> None:
    both = [trained(None, 0.0, seed) for seed in (1, 2, 3)]
    both += [trained(4, gain, seed) for seed, gain in ((1, 0.5), (2, -0.1), (3, 0.0))]
    found = judge(both, GROUPS, "nll")
    assert found["winner"] == 4
    assert found["difference"]["high"] < 0  # by photos alone it would look sure
    assert found["within_noise"]


def test_the_recipe_as_it_was_may_win() -> None:
    found = judge(repeats((None, 0.3), (4, 0.0)), GROUPS, "nll")
    assert (found["winner"], found["difference"]) == (None, None)


def test_who_fails_with_any_seed_cannot_win() -> None:
    runs = [*repeats((None, 0.0), (2, 0.1)), trained(4, 0.9, 1), trained(4, 0.9, 2), trained(4, 0.9, 3, failed=True)]
    assert judge(runs, GROUPS, "nll")["winner"] == 2
    gone = [trained(None, 0.0, seed, failed=True) for seed in (1, 2)]
    assert judge(gone, GROUPS, "nll")["within_noise"]
    found = judge([*gone, trained(2, 0.1, 1), trained(2, 0.1, 2)], GROUPS, "nll")
    assert found["winner"] == 2
    assert "nothing to compare" in found["said"]


def test_one_seed_has_no_spread() -> None:
    found = judge([trained(None, 0.0, 1), trained(4, 0.3, 1)], GROUPS, "nll")
    assert found["difference"]["seeds_margin"] is None
    assert not found["within_noise"]
