"""A trial: the training that `train` would do, without its files, and stopped when it is told to."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bintally.learn.frozen import KeepSettings
from bintally.learn.recipe import Recipe
from bintally.learn.train import train
from bintally.learn.trial import Trainer


def always(epoch: int, figures: Mapping[str, float]) -> bool:
    return True


@pytest.mark.parametrize("unfrozen", [0, 1, 4])
def test_a_trial_finds_what_train_finds(
    make_manifest: Any, tiny: Callable[..., Recipe], snapshot: str, tmp_path: Path, unfrozen: int
) -> None:
    manifest = make_manifest()
    recipe = tiny(epochs=3)
    augment = replace(recipe.augment, shift=0.0, scale=0.0, brightness=0.0, contrast=0.0)
    model = replace(recipe.model, backbone=snapshot, unfrozen_stages=unfrozen)
    recipe = replace(recipe, model=model, augment=augment, keep=KeepSettings(folder=str(tmp_path / "kept")))
    result = train(manifest, tmp_path / "run", recipe)
    trainer = Trainer(manifest.root / "split.parquet", threads=1)
    before = set(tmp_path.rglob("*"))
    seen: list[float] = []

    def go_on(epoch: int, figures: Mapping[str, float]) -> bool:
        seen.append(figures["nll"])
        return True

    for _ in range(2):  # the second one finds the first one's frozen layers as they were
        tried = trainer.run(recipe, go_on)
        assert tried.figures == result.card.metrics["validation"]
        assert tried.figures["nll"] == pytest.approx(tried.per_photo.mean())
        assert (tried.best_epoch, tried.epochs, tried.stopped) == (result.best_epoch, 3, False)
    assert seen[:3] == sorted(seen[:3], reverse=True)  # the best so far
    trainer.close()
    assert set(tmp_path.rglob("*")) == before


def test_a_trial_that_is_told_to_stop_stops(make_manifest: Any, tiny: Callable[..., Recipe]) -> None:
    trainer = Trainer(make_manifest().root / "split.parquet", threads=1)
    tried = trainer.run(tiny(epochs=9), lambda epoch, figures: epoch < 2)
    assert (tried.epochs, tried.stopped, len(tried.per_photo)) == (2, True, 0)
    assert tried.figures["nll"] > 0
    trainer.close()
