"""Levers are tried and told; what cannot be had is an answer."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bintally.errors import RunError
from bintally.learn import attempts
from bintally.learn.attempts import try_levers
from bintally.learn.levers import Lever
from bintally.learn.material import TrainingData
from bintally.learn.measure import Measurement, ProfileSettings
from bintally.learn.profile import profile
from bintally.learn.recipe import Recipe
from bintally.learn.recording import Recording, StepTime
from bintally.progress import Silent

QUICK = ProfileSettings(steps=4, warmup=5, traced=1, interval=0.02, tries=0, try_steps=3)
MakeManifest = Callable[..., Any]


@pytest.fixture
def photos(make_manifest: MakeManifest) -> Any:
    return make_manifest(num=40)


def test_kept_activations_are_tried_and_told(
    tmp_path: Path, photos: Any, tiny: Callable[..., Recipe], snapshot: str
) -> None:
    recipe = tiny(keep_activations="off")
    recipe = dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, backbone=snapshot, unfrozen_stages=0)
    )
    how = dataclasses.replace(QUICK, traced=0, tries=1, steps=3)
    found = profile(photos, recipe, tmp_path / "out", how)
    first = found["advice"][0]
    assert first["name"] == "keep_activations"
    assert first["times"] is not None
    assert "computed once" in first["line"]
    assert "mirrored at most" in first["changes_training"]


def measured(*seconds: float) -> Measurement:
    steps = [StepTime(step=n, forward=one) for n, one in enumerate(seconds, start=1)]
    return Measurement(batch_size=10, recording=Recording(steps=steps))


def lever(name: str) -> Lever:
    return Lever(name=name, settings={"train": {"batch_size": 16}}, why="so", expected=1.5)


@pytest.mark.parametrize(
    ("again", "found", "verdict"),
    [
        (1.0, (0.9, 0.9, 0.9), "pays"),
        (1.0, (0.97, 0.97, 0.97), "does not pay"),
        (0.9, (0.89, 0.89, 0.89), "does not pay"),  # the machine itself became faster
        (1.0, (0.99, 0.99, 0.1), "does not pay"),  # one quick step is no gain
    ],
)
def test_a_lever_beats_the_recipe_before_and_after(
    tmp_path: Path,
    photos: Any,
    tiny: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    again: float,
    found: tuple[float, ...],
    verdict: str,
) -> None:
    runs = iter([measured(*found), measured(again, again, again)])
    monkeypatch.setattr(attempts, "measure", lambda *_: next(runs))
    data, how = TrainingData.of(photos), dataclasses.replace(QUICK, tries=1)
    (one, other), together = try_levers(
        data, tiny(), how, measured(1, 1, 1), [lever("a"), lever("b")], Silent(), tmp_path
    )
    assert (one["verdict"], other["verdict"], together) == (verdict, "not tried", None)
    assert "measured" in one["line"]


def test_a_lever_that_cannot_be_had_is_an_answer(
    tmp_path: Path, photos: Any, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Measurement:
        raise RunError("no such device")

    monkeypatch.setattr(attempts, "measure", fails)
    data, how = TrainingData.of(photos), dataclasses.replace(QUICK, tries=1)
    (one,), _ = try_levers(data, tiny(), how, measured(1, 1, 1), [lever("a")], Silent(), tmp_path)
    assert one["verdict"] == "failed"
    assert one["line"] == "a: cannot be had here: no such device."
