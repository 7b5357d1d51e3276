"""What the processes of a tuning are told, and how they change a recipe."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bintally.errors import SettingsError
from bintally.learn.recipe import Recipe
from bintally.learn.space import Dimension, Space
from bintally.learn.study import TuneSettings
from bintally.learn.trials import Job, Repeat, Task, recipe_with


def test_a_recipe_with_other_values(tiny: Callable[..., Recipe]) -> None:
    recipe = tiny(epochs=7)
    changed = recipe_with(recipe, {"train.head_lr": 0.5, "model.dropout": 0.3}, seed=9)
    assert (changed.train.head_lr, changed.model.dropout, changed.train.seed) == (0.5, 0.3, 9)
    assert (changed.train.epochs, changed.pixels) == (7, recipe.pixels)
    with pytest.raises(SettingsError, match="did you mean"):
        recipe_with(recipe, {"train.head_rl": 0.5})


def test_a_task_knows_the_recipes_own_values(tiny: Callable[..., Recipe], tmp_path: Path) -> None:
    space = Space(dimensions=(Dimension(name="train.batch_size", choices=(8, 16)),))
    task = Task(
        recipe=tiny(epochs=7, batch_size=16),
        space=space,
        manifest=tmp_path,
        folder=tmp_path,
        settings=TuneSettings(),
        threads=1,
    )
    assert (task.own, task.trial_epochs) == ({"train.batch_size": 16}, 7)


def test_repeats_count_by_their_files(tmp_path: Path) -> None:
    jobs = [Job(trial=None, values={}, seed=1), Job(trial=3, values={}, seed=1)]
    repeat = Repeat(jobs, tmp_path)
    assert repeat.done() == (0, "")
    (tmp_path / "repeats").mkdir()
    (tmp_path / "repeats" / "trial-3-seed-1.json").write_text("{}")
    assert repeat.done() == (1, "")
