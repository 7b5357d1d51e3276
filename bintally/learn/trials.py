"""The processes of a tuning: each takes trials, or the best ones again with other seeds, until there are none left."""

import math
import multiprocessing
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from bintally import files, settings
from bintally.errors import BintallyError, RunError
from bintally.learn import study as studies
from bintally.learn.recipe import Recipe
from bintally.learn.space import Assignment, Space, nest
from bintally.learn.study import TuneSettings
from bintally.learn.trial import Trainer, Tried
from bintally.progress import Progress

REPEATS = "repeats"

_OWN = "recipe"


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
class Job:
    """A training with another seed. `trial` is its number, or None for the recipe as it is."""

    trial: int | None
    values: Mapping[str, Any]
    seed: int

    @property
    def file(self) -> str:
        """What its outcome is called."""
        return f"{_OWN if self.trial is None else f'trial-{self.trial}'}-seed-{self.seed}.json"


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


class Search:
    """The parent's view of the search: how many trials have ended."""

    def __init__(self, study: optuna.Study, wishes: TuneSettings) -> None:
        self._study, self._wishes, self._before = study, wishes, len(studies.tried(study))

    kind = "search"
    jobs: Sequence[Job] = ()

    def done(self) -> tuple[int, str]:
        """How many have ended since it was made, and the best of all."""
        best = studies.best_trials(self._study, 1)
        note = f"best {self._wishes.objective} {best[0].value:.4f} (trial {best[0].number})" if best else ""
        return len(studies.tried(self._study)) - self._before, note


class Repeat:
    """The parent's view of the repeats: how many of the jobs have their outcome."""

    kind = "repeat"

    def __init__(self, jobs: Sequence[Job], folder: Path) -> None:
        self.jobs, self._folder = jobs, folder

    def done(self) -> tuple[int, str]:
        """How many are done."""
        return sum((self._folder / REPEATS / job.file).is_file() for job in self.jobs), ""


def in_processes(task: Task, phase: Search | Repeat, budget: int, progress: Progress) -> None:
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
    def __init__(self, progress: Progress, phase: Search | Repeat) -> None:
        self._progress, self._phase, self._shown = progress, phase, 0

    def __call__(self) -> None:
        num, note = self._phase.done()
        if num > self._shown:
            self._progress.advance(num - self._shown, note)
            self._shown = num


def _worker(
    task: Task, kind: str, jobs: Sequence[Job], number: int, left: Any, deadline: float, failures: Any
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _work(task, kind, jobs, number, left, deadline, None)
    except BintallyError as error:
        failures.put(str(error))


def _work(
    task: Task, kind: str, jobs: Sequence[Job], number: int, left: Any, deadline: float, told: _Told | None
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


def _one_job(task: Task, trainer: Trainer, job: Job) -> None:
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


def _lookup(tables: Mapping[str, Mapping[str, Any]], name: str) -> Any:
    section, _, key = name.partition(".")
    return tables.get(section, {}).get(key)
