"""Tuning a recipe: many short trainings, chosen on the validation part alone, the best ones trained again.

Everything is in one folder: `study.log` (every trial), `repeats/` (the best ones with other seeds), and at the end
`trials.csv`, `tune.json` and `best.toml`. A process killed at any moment leaves a folder that the same call goes on with.
"""

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import optuna

from bintally import __version__, files, settings
from bintally.cores import num_cores
from bintally.data.manifest import digest_of, read_manifest
from bintally.errors import RunError
from bintally.learn import study as studies
from bintally.learn.material import TrainingData
from bintally.learn.recipe import Recipe
from bintally.learn.shared import Shared
from bintally.learn.space import Space, nest, write_toml
from bintally.learn.study import HIGHER_IS_BETTER, TuneSettings
from bintally.learn.teacher import check_teacher
from bintally.learn.train import keep_first
from bintally.learn.trials import REPEATS, Job, Repeat, Search, Task, in_processes, recipe_with
from bintally.learn.verdict import judge
from bintally.progress import Progress, Silent

TUNE_FILE = "tune.json"
TRIALS_FILE = "trials.csv"
BEST_FILE = "best.toml"
FORMAT = 1

_LOCK_FILE = "tune.lock"
_MAY_CHANGE = ("trials", "timeout", "workers", "top", "repeat")
"""Settings with which the same tuning may go on."""


def tune(
    recipe: Recipe,
    space: Space,
    manifest: Path,
    folder: Path,
    wishes: TuneSettings,
    *,
    source: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Tunes a recipe on a split manifest, or goes on with a tuning that was stopped.

    Args:
        recipe: where the search starts, and every setting that does not vary.
        space: what varies.
        manifest: the split manifest. Only its train and validation parts are read.
        folder: for all that comes of it.
        wishes: how.
        source: the recipe's tables as they stand in its file, for `best.toml`; by default every setting is written.
        progress: is told how far it is.

    Returns:
        What is written as `tune.json`.

    Raises:
        SettingsError: the space does not fit the recipe.
        ModelError: the teacher holds no trained model.
        RunError: the folder holds something else, another process tunes there now, no trial ended well, or the teacher
            has learnt from what is kept apart.
    """
    progress = progress or Silent()
    check_space(recipe, space)
    cores = num_cores()
    task = Task(
        recipe=recipe,
        space=space,
        manifest=manifest.resolve(),
        folder=folder.resolve(),
        settings=wishes,
        threads=recipe.train.threads or max(1, cores // wishes.workers),
    )
    split = read_manifest(task.manifest)
    check_teacher(recipe.teacher, split, TrainingData.of(split))
    _claim(task)
    lock = filelock.FileLock(folder / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunError(f"another process tunes in {folder} now: wait for it, or name another folder") from error
    try:
        started = time.monotonic()
        studies.mend(folder)
        study = studies.open_study(folder, wishes, epochs=task.trial_epochs)
        budget = studies.prepare(study, space, task.own, wishes)
        if budget:
            _keep_first(task, progress)
            progress.begin(f"tune: trials of {task.trial_epochs} epochs", budget)
            in_processes(task, Search(study, wishes), budget, progress)
            progress.end()
        _write_table(folder, study)
        best = studies.best_trials(study, wishes.top)
        if not best:
            raise RunError(_why_none(study))
        jobs = _jobs(task, best)
        left = [job for job in jobs if not (folder / REPEATS / job.file).is_file()]
        if left:
            progress.begin("tune: the best ones with other seeds", len(left))
            in_processes(task, Repeat(left, folder), len(left), progress)
            progress.end()
        return _finish(task, study, best, jobs, source or recipe.tables(), time.monotonic() - started)
    finally:
        progress.end()
        lock.release()


def check_space(recipe: Recipe, space: Space) -> None:
    """Raises SettingsError when a setting of the space is unknown, or a value of it does not fit the recipe."""
    for one in space.dimensions:
        for value in one.check_values():
            recipe_with(recipe, {one.name: value})


def _keep_first(task: Task, progress: Progress) -> None:
    """What the recipe's frozen layers make of the photos, before the first trial asks: with a bar, by all cores."""
    shared = Shared(TrainingData.of(read_manifest(task.manifest)), several=True)
    try:
        keep_first(shared, task.recipe, progress=progress)
    finally:
        shared.close()


def _jobs(task: Task, best: Sequence[optuna.trial.FrozenTrial]) -> list[Job]:
    """The best trials and the recipe as it is, each with the same other seeds."""
    first = task.recipe.train.seed + 1
    seeds = range(first, first + task.settings.repeat)
    found: list[Job] = []
    for seed in seeds:
        found.append(Job(trial=None, values={}, seed=seed))
        found += [
            Job(trial=trial.number, values=dict(trial.params), seed=seed)
            for trial in best
            if dict(trial.params) != task.own
        ]
    return found


def _claim(task: Task) -> None:
    """Makes the folder this tuning's, or checks that it is."""
    folder, manifest = task.folder, read_manifest(task.manifest)
    asked = {
        "recipe": {name: keys for name, keys in task.recipe.tables().items() if name != "keep"},
        "space": [settings.as_dict(one) for one in task.space.dimensions],
        "settings": {k: v for k, v in settings.as_dict(task.settings).items() if k not in _MAY_CHANGE},
        "manifest_digest": manifest.digest or digest_of(manifest),
    }
    path = folder / "asked.json"
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in json.loads(json.dumps(asked)).items() if before.get(name) != value]
        if changed:
            raise RunError(
                f"{folder} holds a tuning with another {' and another '.join(changed)}: name another folder with --to"
            )
        return
    if folder.exists() and any(not one.name.startswith(".") for one in folder.iterdir()):
        raise RunError(f"{folder} holds something that is no tuning: name another folder with --to")
    files.write_json(path, asked)


def _finish(
    task: Task,
    study: optuna.Study,
    best: Sequence[optuna.trial.FrozenTrial],
    jobs: Sequence[Job],
    source: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Chooses, writes `best.toml` and `tune.json`."""
    repeats = [json.loads((task.folder / REPEATS / job.file).read_text(encoding="utf-8")) for job in jobs]
    groups = TrainingData.of(read_manifest(task.manifest)).validation_groups
    verdict = judge(repeats, groups, task.settings.objective) if repeats else None
    winner = verdict["winner"] if verdict else best[0].number
    chosen = {trial.number: dict(trial.params) for trial in best}.get(winner, {})
    tables = {name: dict(keys) for name, keys in source.items()}
    for name, keys in nest(chosen).items():
        tables.setdefault(name, {}).update(keys)
    said = verdict["said"] if verdict else "trained once: whether it is better than by chance was not looked at"
    head = f"Found by bintally tune ({'trial ' + str(winner) if winner is not None else 'the recipe as it was'}).\n{said}"
    files.write_text(task.folder / BEST_FILE, write_toml(tables, head=head))
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    body = {
        "format": FORMAT,
        "code_version": __version__,
        "objective": task.settings.objective,
        "better": "higher" if task.settings.objective in HIGHER_IS_BETTER else "lower",
        "settings": settings.as_dict(task.settings),
        "space": [settings.as_dict(one) for one in task.space.dimensions],
        "own": task.own,
        "states": {state: states.count(state) for state in sorted(set(states))},
        "seconds": round(seconds, 1),
        "best": {"trial": winner, "values": chosen, "first_value": best[0].value},
        "top": [{"trial": one.number, "value": one.value, "values": dict(one.params)} for one in best],
        "repeats": [{k: v for k, v in one.items() if k != "per_photo"} for one in repeats],
        "verdict": verdict,
        "importances": studies.importances(study),
        "curves": {str(t.number): list(t.intermediate_values.values()) for t in study.get_trials(deepcopy=False)},
    }
    files.write_json(task.folder / TUNE_FILE, body)
    return body


def _write_table(folder: Path, study: optuna.Study) -> None:
    """Writes `trials.csv`: one line a trial."""
    trials = [one for one in study.get_trials(deepcopy=False) if one.state.is_finished()]
    names = sorted({name for trial in trials for name in trial.params})
    figures = sorted({name for trial in trials for name in trial.user_attrs.get("figures", {})})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "state", "value", *names, "epochs", "best_epoch", "seconds", *figures, "reason"])
    for one in trials:
        said = one.user_attrs
        reached = one.intermediate_values
        value = one.value if one.value is not None or not reached else reached[max(reached)]
        row = [one.number, one.state.name.lower(), value, *(one.params.get(name) for name in names)]
        row += [said.get(name) for name in ("epochs", "best_epoch", "seconds")]
        row += [said.get("figures", {}).get(name) for name in figures]
        writer.writerow([*row, said.get("reason", "")])
    files.write_text(folder / TRIALS_FILE, out.getvalue())


def _why_none(study: optuna.Study) -> str:
    reasons = [
        trial.user_attrs["reason"] for trial in study.get_trials(deepcopy=False) if "reason" in trial.user_attrs
    ]
    return f"no trial ended well{': ' + reasons[-1] if reasons else ': give it more time (--timeout)'}"
