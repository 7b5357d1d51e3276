"""Tuning a recipe: many short trainings, chosen on the validation part alone, the best ones trained again.

Everything is in one folder: `study.log` (every trial), `repeats/` (the best ones with other seeds), and at the end
`trials.csv`, `tune.json` and `best.toml`. A process killed at any moment leaves a folder that the same call goes on with.
"""

import csv
import io
import json
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import filelock
import optuna
from optuna.trial import TrialState

from bintally import __version__, files, settings
from bintally.data.manifest import digest_of, read_manifest
from bintally.errors import BintallyError, RunError
from bintally.learn import study as studies
from bintally.learn.material import TrainingData
from bintally.learn.recipe import Recipe
from bintally.learn.shared import Shared
from bintally.learn.space import Assignment, Space, nest, write_toml
from bintally.learn.study import HIGHER_IS_BETTER, TuneSettings
from bintally.learn.train import keep_first
from bintally.learn.trial import Trainer, Tried
from bintally.learn.verdict import judge
from bintally.progress import Progress, Silent

TUNE_FILE = "tune.json"
TRIALS_FILE = "trials.csv"
BEST_FILE = "best.toml"
REPEATS = "repeats"
FORMAT = 1

_LOCK_FILE = "tune.lock"
_OWN = "recipe"
_MAY_CHANGE = ("trials", "timeout", "workers", "top", "repeat")
"""Settings with which the same tuning may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every process of a tuning is told. Plain values: it goes to other processes."""

    recipe: Recipe
    space: Space
    manifest: Path
    folder: Path
    settings: TuneSettings
    threads: int

    @property
    def trial_epochs(self) -> int:
        """Epochs of a trial."""
        return self.settings.epochs or self.recipe.train.epochs

    @property
    def own(self) -> dict[str, Any]:
        """The recipe's own values of what varies."""
        tables = self.recipe.tables()
        return {one.name: _lookup(tables, one.name) for one in self.space.dimensions}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    # A training with another seed. `trial` is its number, or None for the recipe as it is.
    trial: int | None
    values: Mapping[str, Any]
    seed: int

    @property
    def file(self) -> str:
        return f"{_OWN if self.trial is None else f'trial-{self.trial}'}-seed-{self.seed}.json"


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
        RunError: the folder holds something else, another process tunes there now, or no trial ended well.
    """
    progress = progress or Silent()
    check_space(recipe, space)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    task = Task(
        recipe=recipe,
        space=space,
        manifest=manifest.resolve(),
        folder=folder.resolve(),
        settings=wishes,
        threads=recipe.train.threads or max(1, cores // wishes.workers),
    )
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
            _in_processes(task, _Search(study, wishes), budget, progress)
            progress.end()
        _write_table(folder, study)
        best = studies.best_trials(study, wishes.top)
        if not best:
            raise RunError(_why_none(study))
        jobs = _jobs(task, best)
        left = [job for job in jobs if not (folder / REPEATS / job.file).is_file()]
        if left:
            progress.begin("tune: the best ones with other seeds", len(left))
            _in_processes(task, _Repeat(left, folder), len(left), progress)
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


def recipe_with(recipe: Recipe, values: Assignment, **train: Any) -> Recipe:
    """The recipe with some settings ("section.key") changed, and `train` settings by keyword.

    Raises:
        SettingsError: one is unknown or does not fit.
    """
    tables = recipe.tables()
    nested = nest(values)
    settings.check_tables(nested, dict.fromkeys(tables, Recipe), "search space")
    filled = {}
    for name, keys in tables.items():
        cls = type(getattr(recipe, name))
        changes = nested.get(name, {}) | (train if name == "train" else {})
        filled[name] = settings.fill(
            cls, name, file={name: {**keys, **changes}}, file_name="search space", environ={}
        )
    return Recipe(**filled)


class _Search:
    # The parent's view of the search: how many trials have ended.
    def __init__(self, study: optuna.Study, wishes: TuneSettings) -> None:
        self._study, self._wishes, self._before = study, wishes, len(studies.tried(study))

    kind = "search"
    jobs: Sequence[_Job] = ()

    def done(self) -> tuple[int, str]:
        best = studies.best_trials(self._study, 1)
        note = f"best {self._wishes.objective} {best[0].value:.4f} (trial {best[0].number})" if best else ""
        return len(studies.tried(self._study)) - self._before, note


class _Repeat:
    kind = "repeat"

    def __init__(self, jobs: Sequence[_Job], folder: Path) -> None:
        self.jobs, self._folder = jobs, folder

    def done(self) -> tuple[int, str]:
        return sum((self._folder / REPEATS / job.file).is_file() for job in self.jobs), ""


def _keep_first(task: Task, progress: Progress) -> None:
    """What the recipe's frozen layers make of the photos, before the first trial asks: with a bar, by all cores."""
    shared = Shared(TrainingData.of(read_manifest(task.manifest)), several=True)
    try:
        keep_first(shared, task.recipe, progress=progress)
    finally:
        shared.close()


def _in_processes(task: Task, phase: _Search | _Repeat, budget: int, progress: Progress) -> None:
    """Lets workers take from the budget until it is empty; the only one works in this process."""
    workers = min(task.settings.workers, budget)
    context = multiprocessing.get_context("spawn")
    left, failures = context.Value("q", budget), context.SimpleQueue()
    deadline = time.time() + task.settings.timeout if task.settings.timeout and phase.kind == "search" else math.inf
    if workers == 1:
        told = _Told(progress, phase)
        _work(task, phase.kind, phase.jobs, 0, left, deadline, told)
        return
    processes: list[BaseProcess] = [
        context.Process(
            target=_worker, args=(task, phase.kind, phase.jobs, number, left, deadline, failures), daemon=True
        )
        for number in range(1, workers + 1)
    ]
    for process in processes:
        process.start()
    try:
        told = _Told(progress, phase)
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(0.2)
            told()
            if not failures.empty() or any(process.exitcode not in (None, 0) for process in processes):
                break
        if not failures.empty():
            raise RunError(failures.get())
        dead = [process.exitcode for process in processes if process.exitcode not in (None, 0)]
        if dead:
            raise RunError(
                f"a worker ended with exit code {dead[0]}; what was done is kept, the same command goes on"
            )
        told()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


class _Told:
    # Moves the bar by what has been done since last time.
    def __init__(self, progress: Progress, phase: _Search | _Repeat) -> None:
        self._progress, self._phase, self._shown = progress, phase, 0

    def __call__(self) -> None:
        num, note = self._phase.done()
        if num > self._shown:
            self._progress.advance(num - self._shown, note)
            self._shown = num


def _worker(
    task: Task, kind: str, jobs: Sequence[_Job], number: int, left: Any, deadline: float, failures: Any
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _work(task, kind, jobs, number, left, deadline, None)
    except BintallyError as error:
        failures.put(str(error))


def _work(
    task: Task, kind: str, jobs: Sequence[_Job], number: int, left: Any, deadline: float, told: _Told | None
) -> None:
    """One worker: takes trials or jobs until there are none left."""
    trainer = Trainer(task.manifest, threads=task.threads)
    try:
        if kind == "search":
            # Another number for every process and every start, so that none repeats another's random choices.
            luck = number + 1000 * len(
                studies.open_study(task.folder, task.settings, epochs=1).get_trials(deepcopy=False)
            )
            study = studies.open_study(task.folder, task.settings, epochs=task.trial_epochs, luck=luck)
        while True:
            with left.get_lock():
                if left.value <= 0 or time.time() > deadline:
                    return
                left.value -= 1
                taken = left.value
            if kind == "search":
                _one_trial(task, trainer, study)
            else:
                _one_job(task, trainer, jobs[len(jobs) - 1 - taken])
            if told is not None:
                told()
    finally:
        trainer.close()


def _one_trial(task: Task, trainer: Trainer, study: optuna.Study) -> None:
    trial = study.ask()
    values = task.space.suggest(trial)
    objective = task.settings.objective

    def go_on(epoch: int, figures: Mapping[str, float]) -> bool:
        _end_with_the_parent()
        # Of the best epoch so far, as that is what a training is judged by in the end.
        trial.report(figures[objective], epoch)
        return not trial.should_prune()

    started = time.monotonic()
    try:
        recipe = recipe_with(task.recipe, values, epochs=task.trial_epochs)
        tried = trainer.run(recipe, go_on)
    except RunError as error:
        # A rate too high for anything to be learnt is an answer too. What is wrong with all trials stops the first.
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.FAIL)
        ended = studies.tried(study)
        if len(ended) >= 5 and all(one.state == TrialState.FAIL for one in ended):
            raise
        return
    trial.set_user_attr("seconds", round(time.monotonic() - started, 2))
    trial.set_user_attr("epochs", tried.epochs)
    trial.set_user_attr("best_epoch", tried.best_epoch)
    trial.set_user_attr("figures", tried.figures)
    if tried.stopped:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, tried.figures[objective])


def _one_job(task: Task, trainer: Trainer, job: _Job) -> None:
    def go_on(epoch: int, figures: Mapping[str, float]) -> bool:
        _end_with_the_parent()
        return True

    recipe = recipe_with(task.recipe, job.values, seed=job.seed)
    try:
        tried: Tried | None = trainer.run(recipe, go_on)
        why = ""
    except RunError as error:
        tried, why = None, str(error)
    body = {
        "trial": job.trial,
        "seed": job.seed,
        "values": dict(job.values),
        "failed": why,
        "best_epoch": tried.best_epoch if tried else 0,
        "epochs": tried.epochs if tried else 0,
        "figures": tried.figures if tried else {},
        "per_photo": tried.per_photo.tolist() if tried else [],
    }
    files.write_json(task.folder / REPEATS / job.file, body)


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit(1)


def _jobs(task: Task, best: Sequence[optuna.trial.FrozenTrial]) -> list[_Job]:
    """The best trials and the recipe as it is, each with the same other seeds."""
    first = task.recipe.train.seed + 1
    seeds = range(first, first + task.settings.repeat)
    found: list[_Job] = []
    for seed in seeds:
        found.append(_Job(trial=None, values={}, seed=seed))
        found += [
            _Job(trial=trial.number, values=dict(trial.params), seed=seed)
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
    jobs: Sequence[_Job],
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


def _lookup(tables: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    section, _, key = name.partition(".")
    return tables.get(section, {}).get(key)
