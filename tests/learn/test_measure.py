"""A measurement finds what takes time, ends when it should, and leaves nothing behind."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bintally.learn.augment import AugmentSettings
from bintally.learn.material import TrainingData
from bintally.learn.measure import ProfileSettings, measure, one_process
from bintally.learn.profile import profile
from bintally.learn.recipe import Recipe
from bintally.progress import Silent

QUICK = ProfileSettings(steps=4, warmup=5, traced=1, interval=0.02, tries=0, try_steps=3)
MakeManifest = Callable[..., Any]


@pytest.fixture
def photos(make_manifest: MakeManifest) -> Any:
    return make_manifest(num=40)


def test_a_slow_step_is_found_where_it_is(
    tmp_path: Path, photos: Any, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.Adam.step

    def slow(self: Any, *args: Any, **more: Any) -> Any:
        time.sleep(0.3)
        return step(self, *args, **more)

    monkeypatch.setattr(torch.optim.Adam, "step", slow)
    how = dataclasses.replace(QUICK, traced=0, warmup=1, steps=3)
    found = profile(photos, tiny(optimizer="adam"), tmp_path / "out", how)
    assert found["phases"]["optimizer"]["seconds"] > 0.3
    assert found["trace"] is None


def test_a_long_measurement_ends_in_time(tmp_path: Path, photos: Any, tiny: Callable[..., Recipe]) -> None:
    how = dataclasses.replace(QUICK, steps=10_000, traced=0, max_seconds=0.01, warmup=0)
    assert profile(photos, tiny(), tmp_path / "out", how)["measured_steps"] < 100


def test_a_first_epoch_reads_and_decodes(tmp_path: Path, photos: Any, tiny: Callable[..., Recipe]) -> None:
    data, recipe = TrainingData.of(photos), tiny()
    runs = {
        epoch: measure(data, recipe, dataclasses.replace(QUICK, epoch=epoch), 3, "t", Silent(), tmp_path)  # type: ignore[arg-type]
        for epoch in ("first", "later")
    }
    assert (runs["first"].in_memory, runs["later"].in_memory) == (False, True)
    assert runs["first"].decoded > runs["later"].photos >= runs["later"].decoded
    assert [len(run.recording.steps) for run in runs.values()] == [3, 3]
    assert all(run.rate > 0 and run.samples == () for run in runs.values())


def test_what_the_training_would_keep_is_kept_and_computed_once(
    tmp_path: Path, photos: Any, tiny: Callable[..., Recipe], snapshot: str
) -> None:
    recipe = tiny(epochs=10)
    recipe = dataclasses.replace(
        recipe,
        model=dataclasses.replace(recipe.model, backbone=snapshot, unfrozen_stages=0),
        augment=AugmentSettings(flip=0.5),
    )
    data = TrainingData.of(photos)
    first, again = (measure(data, recipe, QUICK, 3, "t", Silent(), tmp_path) for _ in range(2))
    assert first.kept
    assert again.kept
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    short = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, epochs=2))
    assert not measure(data, short, QUICK, 3, "t", Silent(), tmp_path).kept


def test_one_process_takes_its_share_of_the_batch(tiny: Callable[..., Recipe]) -> None:
    recipe = one_process(tiny(processes=4, batch_size=8))
    assert (recipe.train.processes, recipe.train.batch_size) == (1, 2)
