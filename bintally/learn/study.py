"""The study of a tuning: its trials in a journal on disk that a killed process leaves whole, its sampler, its pruner."""

import itertools
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import filelock
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field

from bintally.errors import SettingsError
from bintally.learn.space import Assignment, Space

JOURNAL_FILE = "study.log"
_NAME = "tune"

Objective = Literal["nll", "accuracy", "within_one", "rmse", "rmse_expected", "mae_expected"]
HIGHER_IS_BETTER = frozenset({"accuracy", "within_one"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSettings:
    """How a recipe is tuned.

    Attributes:
        trials: how many trainings in all, counting those of earlier runs of the same command; a grid search ends
            with its last point.
        timeout: stop starting trials after so many seconds; 0 for no limit. The repeats still run.
        workers: processes that train at once; the cores are shared among them.
        sampler: who chooses the next values: "tpe" (Bergstra et al. 2011), "random" or "grid".
        pruner: who stops hopeless trials: "asha" (asynchronous successive halving, Li et al. 2020), "hyperband" (Li
            et al. 2018) or "none".
        min_epochs: epochs before a trial may be stopped.
        reduction: the pruner lets about one in so many trials go on at each of its rungs.
        objective: the figure of the validation part that is made best. Nothing else is ever looked at.
        epochs: of each trial; 0 for the recipe's own. The repeats always train for the recipe's own.
        top: how many of the best trials are trained again.
        repeat: with how many other seeds; 0 leaves that out.
        seed: of the sampler.
    """

    trials: Annotated[int, Field(ge=1)] = 50
    timeout: Annotated[float, Field(ge=0)] = 0.0
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["asha", "hyperband", "none"] = "asha"
    min_epochs: Annotated[int, Field(ge=1)] = 2
    reduction: Annotated[int, Field(ge=2)] = 3
    objective: Objective = "nll"
    epochs: Annotated[int, Field(ge=0)] = 0
    top: Annotated[int, Field(ge=1)] = 3
    repeat: Annotated[int, Field(ge=0)] = 3
    seed: Annotated[int, Field(ge=0)] = 0


class _KernelLock(JournalFileOpenLock):
    """The journal's lock as one of the kernel's, which goes with the process that holds it: optuna's own stays."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._lock = filelock.FileLock(path.with_name(path.name + ".lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def open_study(folder: Path, settings: TuneSettings, *, epochs: int, luck: int = 0) -> optuna.Study:
    """Opens the folder's study, or begins it.

    Args:
        folder: of the tuning.
        settings: sampler, pruner, objective, seed.
        epochs: of a trial.
        luck: another number gives the sampler other random numbers: each process, and each run of the command, its own.
    """
    # What optuna tells on its log is told here by the progress.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / JOURNAL_FILE
    return optuna.create_study(
        study_name=_NAME,
        storage=JournalStorage(JournalFileBackend(str(path), lock_obj=_KernelLock(path))),
        sampler=_sampler(settings, luck),
        pruner=_pruner(settings, epochs),
        direction="maximize" if settings.objective in HIGHER_IS_BETTER else "minimize",
        load_if_exists=True,
    )


def mend(folder: Path) -> None:
    """Cuts off a last line that a crash left half-written. Only while no other process has the study open."""
    path = folder / JOURNAL_FILE
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        while size and b"\n" not in tail:
            step = min(size, 1 << 16)
            size -= step
            file.seek(size)
            tail = file.read(step) + tail
        file.truncate(size + tail.rfind(b"\n") + 1)


def prepare(study: optuna.Study, space: Space, own: Assignment, settings: TuneSettings) -> int:
    """Queues what must be tried: trials that a killed process left, the recipe's own values, every point of a grid.

    Args:
        study: opened by the only process that runs the tuning now.
        space: what varies.
        own: the recipe's own values.
        settings: the sampler.

    Returns:
        How many trials may still be started.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params or "fixed_params" in trial.system_attrs:
            again = trial.params or trial.system_attrs["fixed_params"]
            study.enqueue_trial(again, user_attrs={"again": trial.number})
    if space.holds(own):
        study.enqueue_trial(dict(own), user_attrs={"own": True}, skip_if_exists=True)
    limit = settings.trials
    if settings.sampler == "grid":
        grid = space.grid()
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        if len(points) > 10_000:
            raise SettingsError(f"a grid of {len(points):,} points is too fine: write grid = […] in the space")
        # In no order, so that a search that ends early has been everywhere.
        random.Random(settings.seed).shuffle(points)
        queued = {_frozen(point_of(trial)) for trial in study.get_trials(deepcopy=False)}
        for point in points:
            if _frozen(point) not in queued:
                study.enqueue_trial(point)
        queued |= {_frozen(point) for point in points}
        limit = min(limit, len(queued))
    return max(0, limit - len(tried(study)))


def point_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial's values, also of one that waits."""
    return dict(trial.params or trial.system_attrs.get("fixed_params", {}))


def tried(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: those that ended or were pruned, and those whose training failed by itself."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=ended)
    return [trial for trial in trials if trial.state != TrialState.FAIL or "reason" in trial.user_attrs]


def best_trials(study: optuna.Study, top: int) -> list[FrozenTrial]:
    """The best finished trials of different values, the best first."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    found: dict[Any, FrozenTrial] = {}
    for trial in sorted(done, key=lambda one: (sign * (one.value or 0.0), one.number)):
        found.setdefault(_frozen(trial.params), trial)
    return list(found.values())[:top]


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each setting matters to be among the best (PED-ANOVA, Watanabe et al. 2023)."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < 4 or len({trial.value for trial in done}) < 2:
        return {}
    # Not the default evaluator, which needs another library.
    found = optuna.importance.get_param_importances(study, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in found.items()}


def _sampler(settings: TuneSettings, luck: int) -> BaseSampler:
    seed = random.Random(f"{settings.seed} {luck}").randrange(1 << 31) if luck else settings.seed
    if settings.sampler == "tpe":
        # Trials that run elsewhere count as bad ones, so that two processes do not try the same place.
        return TPESampler(seed=seed, multivariate=True, constant_liar=settings.workers > 1)
    return RandomSampler(seed=seed)


def _pruner(settings: TuneSettings, epochs: int) -> BasePruner:
    if settings.pruner == "asha":
        return SuccessiveHalvingPruner(min_resource=settings.min_epochs, reduction_factor=settings.reduction)
    if settings.pruner == "hyperband":
        return HyperbandPruner(
            min_resource=settings.min_epochs,
            max_resource=max(epochs, settings.min_epochs),
            reduction_factor=settings.reduction,
        )
    return NopPruner()


def _frozen(values: Assignment) -> Sequence[tuple[str, Any]]:
    return tuple(sorted(values.items()))
