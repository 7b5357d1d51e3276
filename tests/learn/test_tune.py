"""Tuning: finds what is better, on validation alone; goes on after a kill; says when it found nothing but noise."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from bintally.data.manifest import read_manifest
from bintally.errors import ModelError, RunError, SettingsError
from bintally.learn.frozen import KeepSettings
from bintally.learn.recipe import Recipe, read_recipe
from bintally.learn.space import Dimension, Space
from bintally.learn.study import TuneSettings, open_study
from bintally.learn.teacher import TeacherSettings
from bintally.learn.train import train
from bintally.learn.trial import Trainer
from bintally.learn.trials import recipe_with
from bintally.learn.tune import check_space, tune
from bintally.progress import Silent

SPACE = Space(
    dimensions=(
        Dimension(name="train.head_lr", low=1e-4, high=0.3, log=True, grid=(1e-4, 1e-2, 0.1)),
        Dimension(name="train.batch_size", choices=(4, 8)),
    )
)
QUICK = TuneSettings(trials=6, top=2, repeat=2, min_epochs=1)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def recipe(tiny: Callable[..., Recipe], snapshot: str, tmp_path: Path) -> Recipe:
    """Head only, over kept activations; it starts where hardly anything is learnt."""
    made = tiny(epochs=3, head_lr=1e-4, keep_activations="on", threads=1)
    augment = replace(made.augment, shift=0.0, scale=0.0, brightness=0.0, contrast=0.0)
    model = replace(made.model, backbone=snapshot, unfrozen_stages=0)
    return replace(made, model=model, augment=augment, keep=KeepSettings(folder=str(tmp_path / "kept")))


@pytest.fixture
def split(make_manifest: Any) -> Path:
    made: Path = make_manifest().root / "split.parquet"
    return made


def test_from_search_to_a_recipe_that_train_takes(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tune"
    found = tune(recipe, SPACE, split, folder, replace(QUICK, pruner="none"))
    assert found == json.loads((folder / "tune.json").read_text())
    assert sum(found["states"].values()) == 6
    rows = table(folder)
    assert [int(row["trial"]) for row in rows] == list(range(6))
    # The recipe's own values are tried first.
    assert (float(rows[0]["train.head_lr"]), int(rows[0]["train.batch_size"])) == (1e-4, 8)
    complete = [row for row in rows if row["state"] == "complete"]
    assert found["top"][0]["value"] == min(float(row["value"]) for row in complete)
    # The best two and the recipe as it was, with two other seeds each.
    assert len(found["repeats"]) in (4, 6)
    assert {one["seed"] for one in found["repeats"]} == {1, 2}
    assert found["verdict"]["winner"] == found["best"]["trial"]
    best = read_recipe(folder / "best.toml", environ={})
    expected = recipe_with(recipe, found["best"]["values"])
    assert best == expected
    assert len(list((tmp_path / "kept").iterdir())) == 1  # computed once for all


def test_a_teacher_that_would_give_the_validation_part_away_is_refused_before_anything_is_written(
    recipe: Recipe, split: Path, tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    train(read_manifest(split), tmp_path / "teacher", tiny(epochs=1, refit=True))
    taught = replace(recipe, teacher=TeacherSettings(run=str(tmp_path / "teacher")))
    with pytest.raises(RunError, match="learnt from 8 photos of this split's validation part"):
        tune(taught, SPACE, split, tmp_path / "tune", QUICK)
    with pytest.raises(ModelError):
        tune(
            replace(recipe, teacher=TeacherSettings(run=str(tmp_path / "no"))), SPACE, split, tmp_path / "tune", QUICK
        )
    assert not (tmp_path / "tune").exists()


def test_the_size_of_what_is_kept_is_told_before_the_first_trial(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Silent):
        def begin(self, task: str, total: int | None = None) -> None:
            told.append(task)

        def message(self, text: str) -> None:
            told.append(text)

    tune(recipe, SPACE, split, tmp_path / "tune", replace(QUICK, trials=1, repeat=0), progress=Told())
    assert told[0].startswith("kept activations: ")
    assert told[1:3] == ["kept activations", "tune: trials of 3 epochs"]


def test_the_test_part_is_not_touched(recipe: Recipe, make_manifest: Any, tmp_path: Path) -> None:
    manifest = make_manifest()
    for part in ("calibration", "test"):
        for row in manifest.of_part(part):
            manifest.path_of(row).unlink()
    tune(recipe, SPACE, manifest.root / "split.parquet", tmp_path / "tune", replace(QUICK, trials=2, repeat=0))


def test_the_same_seed_finds_the_same(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    wishes = replace(QUICK, repeat=0, sampler="random", pruner="none", trials=4)
    values = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tune(recipe, SPACE, split, tmp_path / name, replace(wishes, seed=seed))
        rows = table(tmp_path / name)
        values.append([(row["train.head_lr"], row["value"]) for row in rows])
    assert values[0] == values[1] != values[2]


def test_a_grid_tries_every_point_once(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    found = tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, sampler="grid", trials=99, repeat=0))
    rows = table(tmp_path / "t")
    points = {(float(row["train.head_lr"]), int(row["train.batch_size"])) for row in rows}
    assert len(points) == len(rows) == 6  # the recipe's own values are one of them
    again = tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, sampler="grid", trials=99, repeat=0))
    assert again["states"] == found["states"]


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_hopeless_trials_are_stopped(recipe: Recipe, split: Path, tmp_path: Path, pruner: Any) -> None:
    wishes = replace(QUICK, trials=12, repeat=0, pruner=pruner, reduction=2, epochs=4)
    found = tune(recipe, SPACE, split, tmp_path / "t", wishes)
    assert found["states"].get("pruned", 0) > 0
    lengths = {len(curve) for curve in found["curves"].values()}
    assert min(lengths) < 4
    assert max(lengths) == 4


def test_more_trials_go_on_where_it_ended(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, trials=2, repeat=0))
    before = table(tmp_path / "t")
    found = tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, trials=4, repeat=1))
    after = table(tmp_path / "t")
    assert sum(found["states"].values()) == 4
    assert [row["value"] for row in after[:2]] == [row["value"] for row in before]
    assert len({row["train.head_lr"] for row in after}) == 4  # the sampler does not begin again


def test_another_question_in_the_same_folder_is_an_error(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, trials=1, repeat=0))
    with pytest.raises(RunError, match="another recipe"):
        tune(recipe_with(recipe, {"train.clip": 1.0}), SPACE, split, tmp_path / "t", QUICK)
    with pytest.raises(RunError, match="another settings"):
        tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, seed=3))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="holds something that is no tuning"):
        tune(recipe, SPACE, split, tmp_path / "other", QUICK)


@pytest.mark.parametrize(
    ("dimension", "problem"),
    [
        (Dimension(name="train.lr", low=0.1, high=1.0), "unknown setting train.lr"),
        (Dimension(name="trian.head_lr", low=0.1, high=1.0), "did you mean 'train'"),
        (Dimension(name="model.dropout", low=0.0, high=1.0), "less than 1"),
        (Dimension(name="train.optimizer", choices=("adam", "lion")), "lion"),
    ],
)
def test_a_space_that_does_not_fit_the_recipe(recipe: Recipe, dimension: Dimension, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        check_space(recipe, Space(dimensions=(dimension,)))


def test_trials_that_fail_are_answers_until_all_do(
    recipe: Recipe, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, numbers = Trainer.run, iter(range(100))

    def sometimes(self: Any, recipe: Recipe, go_on: Any) -> Any:
        if next(numbers) % 2:
            raise RunError("the loss is inf")
        return run(self, recipe, go_on)

    monkeypatch.setattr(Trainer, "run", sometimes)
    found = tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, repeat=0, trials=4))
    assert found["states"]["fail"] == 2
    reasons = [row["reason"] for row in table(tmp_path / "t")]
    assert reasons.count("the loss is inf") == 2

    def never(self: Any, recipe: Recipe, go_on: Any) -> Any:
        raise RunError("the loss is inf")

    monkeypatch.setattr(Trainer, "run", never)
    with pytest.raises(RunError, match="the loss is inf"):
        tune(recipe, SPACE, split, tmp_path / "u", QUICK)


_PROGRAM = """
import sys, time
from pathlib import Path
from bintally.learn import tune as tuning
from bintally.learn.trial import Trainer
from bintally.learn.recipe import read_recipe
from bintally.learn.space import read_space
from bintally.learn.study import TuneSettings
import torch
torch.set_num_threads(1)
if __name__ == "__main__":
    recipe, space, split, folder, workers, slow = sys.argv[1:]
    run = Trainer.run
    def slowly(self, recipe, go_on):
        def wait(epoch, figures):
            time.sleep(float(slow))
            return go_on(epoch, figures)
        return run(self, recipe, wait)
    Trainer.run = slowly
    wishes = TuneSettings(trials=6, repeat=1, top=1, workers=int(workers), min_epochs=1)
    tuning.tune(read_recipe(recipe, environ={}), read_space(Path(space)), Path(split), Path(folder), wishes)
"""


@pytest.fixture
def program(recipe: Recipe, split: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    from bintally.learn.space import write_toml

    (tmp_path / "program.py").write_text(_PROGRAM)
    (tmp_path / "r.toml").write_text(write_toml(recipe.tables()))
    (tmp_path / "s.toml").write_text("[train]\nhead_lr = { low = 1e-4, high = 0.3, log = true }\n")

    def start(folder: Path, *, workers: int = 1, slow: float = 0.0) -> subprocess.Popen[bytes]:
        words = [tmp_path / name for name in ("program.py", "r.toml", "s.toml")]
        return subprocess.Popen([sys.executable, *words, split, folder, str(workers), str(slow)])

    return start


@pytest.mark.slow
def test_after_a_kill_the_same_command_goes_on(program: Any, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    process = program(folder, slow=0.5)
    journal = folder / "study.log"

    def states() -> list[str]:
        if not journal.is_file():
            return []
        copy = shutil.copy(journal, tmp_path / "copy.log")  # a reader of the journal itself might lock it
        backend = optuna.storages.journal.JournalFileBackend(str(copy))
        try:
            study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
        except (KeyError, ValueError):
            return []  # no study yet
        return [trial.state.name for trial in study.trials]

    def two_are_over_and_one_runs() -> bool:
        found = states()
        return found.count("RUNNING") == 1 and found.count("COMPLETE") + found.count("PRUNED") >= 2

    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        if two_are_over_and_one_runs():
            process.send_signal(signal.SIGSTOP)  # else the trial might be over before the kill comes
            if two_are_over_and_one_runs():
                break
            process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with journal.open("ab") as file:
        file.write(b'{"op_code":6,"tri')  # as a crash of the machine leaves it
    assert program(folder).wait(timeout=120) == 0
    found = json.loads((folder / "tune.json").read_text())
    assert found["states"].pop("fail") == 1  # the one that was running was queued again
    assert sum(found["states"].values()) == 6
    # The kill may have come before the trial that was running had drawn anything.
    numbers = [row["train.head_lr"] for row in table(folder) if row["train.head_lr"]]
    assert len(set(numbers)) == 6


@pytest.mark.slow
def test_two_workers_share_the_trials(program: Any, tmp_path: Path) -> None:
    assert program(tmp_path / "t", workers=2).wait(timeout=240) == 0
    found = json.loads((tmp_path / "t" / "tune.json").read_text())
    assert sum(found["states"].values()) == 6
    assert len(found["repeats"]) in (1, 2)


def test_two_tunings_in_one_folder(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    import filelock

    tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, trials=1, repeat=0))
    with filelock.FileLock(tmp_path / "t" / "tune.lock"), pytest.raises(RunError, match="another process tunes"):
        tune(recipe, SPACE, split, tmp_path / "t", QUICK)


def test_a_time_limit_ends_the_search(recipe: Recipe, split: Path, tmp_path: Path) -> None:
    found = tune(recipe, SPACE, split, tmp_path / "t", replace(QUICK, trials=10_000, timeout=2.0, repeat=0))
    assert 0 < sum(found["states"].values()) < 10_000


def test_importances_name_what_matters(tmp_path: Path) -> None:
    from bintally.learn.study import importances

    study = open_study(tmp_path, TuneSettings(sampler="random"), epochs=3)
    assert importances(study) == {}
    luck = np.random.default_rng(0)
    for _ in range(40):
        trial = study.ask()
        one, two = trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)
        study.tell(trial, (one - 0.5) ** 2 + 0.001 * two * luck.random())
    found = importances(study)
    assert found["a"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert isinstance(study, optuna.Study)
    assert (tmp_path / "study.log").is_file()
