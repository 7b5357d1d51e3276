"""How a tuning job chooses values for its next training, and which trainings it ends early. Pure: no clock, no files."""

import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bintally.cloud.local.ranges import Range

Values = dict[str, str]

REDUCTION = 3
"""Hyperband: of the trainings that reach a rung, one in so many goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One training so far.

    Attributes:
        values: its hyperparameters that vary.
        objective: its last objective value; None while it has none.
        running: whether it still runs.
        history: every objective value that it told.
    """

    values: Mapping[str, str]
    objective: float | None = None
    running: bool = False
    history: Sequence[float] = ()


def propose(
    strategy: str,
    ranges: Sequence[Range],
    tried: Sequence[Tried],
    *,
    place: int,
    seed: int,
    maximize: bool,
    jobs: int,
) -> Values | None:
    """Values for the next training.

    Args:
        strategy: Random, Grid, Bayesian or Hyperband.
        ranges: what varies.
        tried: the trainings so far, those of a warm start too.
        place: which training of this job the next one is, from 0.
        seed: the same one gives the same values, where they do not depend on results.
        maximize: whether larger objectives are better.
        jobs: how many trainings there will be at most.

    Returns:
        Hyperparameter → value, or None when a grid has no more.
    """
    if strategy == "Grid":
        combinations = itertools.product(*(one.values for one in ranges))
        chosen = next(itertools.islice(combinations, place, None), None)
        return None if chosen is None else dict(zip((one.name for one in ranges), chosen, strict=True))
    if strategy == "Bayesian":
        return _bayesian(ranges, tried, seed=seed + place, maximize=maximize, jobs=jobs)
    rng = random.Random(f"{seed}/{place}")
    return {one.name: one.value(rng.random()) for one in ranges}


def grid_size(ranges: Sequence[Range]) -> int:
    """How many trainings a grid has."""
    return math.prod(len(one.values) for one in ranges)


def _bayesian(ranges: Sequence[Range], tried: Sequence[Tried], *, seed: int, maximize: bool, jobs: int) -> Values:
    # A new study each time, told of everything so far: nothing but the trainings themselves has to survive a restart.
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=min(10, max(2, jobs // 3)), constant_liar=True, multivariate=False
    )
    study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)
    space: dict[str, Any] = {
        one.name: optuna.distributions.CategoricalDistribution(one.values)
        if one.values
        else optuna.distributions.FloatDistribution(0.0, 1.0)
        for one in ranges
    }
    for one in tried:
        try:
            params = {
                dim.name: one.values[dim.name] if dim.values else dim.unit(one.values[dim.name]) for dim in ranges
            }
        except (KeyError, ValueError):  # of a parent job with another space
            continue
        if one.running:
            state, value = optuna.trial.TrialState.RUNNING, None
        elif one.objective is not None and math.isfinite(one.objective):
            state, value = optuna.trial.TrialState.COMPLETE, one.objective
        else:
            continue
        study.add_trial(optuna.trial.create_trial(state=state, value=value, params=params, distributions=space))
    trial = study.ask(space)
    return {
        one.name: str(trial.params[one.name]) if one.values else one.value(float(trial.params[one.name]))
        for one in ranges
    }


def behind_rung(one: Tried, others: Sequence[Tried], *, lowest: int, maximize: bool) -> bool:
    """Hyperband: whether a training is not among the best third at the last rung that it has reached.

    Rungs lie at `lowest` objective values, three times as many, and so on. It is held against those that have reached
    the rung before, whatever became of them; nobody waits for anybody.
    """
    if len(one.history) < lowest:
        return False
    rung = lowest
    while rung * REDUCTION <= len(one.history):
        rung *= REDUCTION
    own = _best(one.history[:rung], maximize)
    reached = [_best(other.history[:rung], maximize) for other in others if len(other.history) >= rung]
    better = sum(value > own if maximize else value < own for value in reached)
    return better >= max(1, (len(reached) + 1) // REDUCTION)


def behind_median(one: Tried, others: Sequence[Tried], *, maximize: bool) -> bool:
    """Early stopping: whether a training's best is worse than the median of the others' running averages by then.

    Only trainings that have ended are looked at, and only once there are three of them.
    """
    step = len(one.history)
    averages = [
        statistics.fmean(other.history[:step]) for other in others if not other.running and len(other.history) >= step
    ]
    if step < 2 or len(averages) < 3:
        return False
    own, median = _best(one.history, maximize), statistics.median(averages)
    return own < median if maximize else own > median


def _best(values: Sequence[float], maximize: bool) -> float:
    return max(values) if maximize else min(values)
