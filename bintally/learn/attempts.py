"""Trying what should make a training faster: levers measured against the recipe as it was, before and after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bintally.errors import BintallyError, RunStoppedError
from bintally.learn.levers import Lever
from bintally.learn.material import TrainingData
from bintally.learn.measure import Measurement, ProfileSettings, measure
from bintally.learn.recipe import Recipe
from bintally.learn.sampling import percentile
from bintally.progress import Progress

_PAYS = 1.05


def try_levers(
    data: TrainingData,
    recipe: Recipe,
    how: ProfileSettings,
    base: Measurement,
    levers: Sequence[Lever],
    progress: Progress,
    scratch: Path,
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Tries the first levers one by one, and those that paid together.

    Args:
        data: all photos of the training.
        recipe: as it was measured.
        how: how many are tried, with how many steps.
        base: that measurement.
        levers: the greatest gain to expect first.
        progress: is told how far it is.
        scratch: see `measure`.

    Returns:
        Each lever with its verdict ("pays", "does not pay", "failed", "not tried"), and those that paid together, when
        there are two or more.
    """
    tried, runs = [_described(lever) for lever in levers], []
    for lever, one in zip(levers[: how.tries], tried, strict=False):
        runs.append(_tried(data, lever.applied(recipe), how, lever.name, one, progress, scratch))
    if not any(runs):
        for one in tried[: len(runs)]:
            _judge(one, [base], None)
        return tried, None
    # The machine's own pace drifts when others use it: a lever has to beat the recipe before and after.
    bases = [base, measure(data, recipe, how, how.try_steps, "measuring again", progress, scratch)]
    for one, run in zip(tried, runs, strict=False):
        _judge(one, bases, run)
        if run is not None and run.kept and not base.kept:
            seconds = max(0.0, run.recording.setup_seconds - base.recording.setup_seconds)
            whole = seconds * len(data.train_paths) / run.photos
            one["line"] += f" What is kept is computed once, about {whole:,.0f} s for all training photos."
    paid = [lever for lever, one in zip(levers, tried, strict=True) if one["verdict"] == "pays"]
    if len(paid) < 2:
        return tried, None
    changed, names = recipe, ", ".join(lever.name for lever in paid)
    for lever in paid:
        changed = lever.applied(changed)
    together: dict[str, Any] = {"name": names, "flags": [flag for lever in paid for flag in lever.flags]}
    _judge(together, bases, _tried(data, changed, how, f"{names} together", together, progress, scratch))
    return tried, together


def _described(lever: Lever) -> dict[str, Any]:
    return {
        "name": lever.name,
        "flags": lever.flags,
        "why": lever.why,
        "expected": round(lever.expected, 2),
        "changes_training": lever.changes_training,
        "verdict": "not tried",
        "times": None,
        "before": None,
        "after": None,
        "line": f"{lever.name}: {lever.expected:.1f} times expected, not tried.",
    }


def _tried(
    data: TrainingData,
    recipe: Recipe,
    how: ProfileSettings,
    name: str,
    one: dict[str, Any],
    progress: Progress,
    scratch: Path,
) -> Measurement | None:
    try:
        return measure(data, recipe, how, how.try_steps, f"trying {name}", progress, scratch)
    except RunStoppedError:
        raise
    except (BintallyError, torch.OutOfMemoryError) as error:
        # A setting that cannot be had here is an answer, not the end of the profile.
        one["fault"] = " ".join(str(error).split())[:300]
        return None


def _judge(one: dict[str, Any], bases: Sequence[Measurement], run: Measurement | None) -> None:
    if run is None:
        one |= {"verdict": "failed", "times": None, "before": None, "after": None}
        one["line"] = f"{one['name']}: cannot be had here: {one['fault']}."
        return
    before = sum(base.rate for base in bases) / len(bases)
    times = run.rate / before
    # The means pay, and so do the medians: a single slow step makes no gain, nor does a machine that had a bad minute.
    least = min(run.rate / max(base.rate for base in bases), _median_rate(run) / max(map(_median_rate, bases)))
    verdict = "pays" if least >= _PAYS else "does not pay"
    one |= {"verdict": verdict, "times": round(times, 3), "before": round(before, 2), "after": round(run.rate, 2)}
    figures = f"{times:.2f} times, measured: {before:,.1f} → {run.rate:,.1f} photos/s"
    one["line"] = f"{one['name']}: {figures}." if verdict == "pays" else f"{one['name']}: did not pay: {figures}."
    if verdict != "pays" and times >= _PAYS:
        rates = " and ".join(f"{base.rate:,.1f}" for base in bases)
        one["line"] += f" That is within what the machine itself varies by: without it, {rates}."


def _median_rate(run: Measurement) -> float:
    return run.batch_size / percentile([step.seconds for step in run.recording.steps], 50)
