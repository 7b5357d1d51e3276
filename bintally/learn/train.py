"""Training a counter, on any device: a run folder that goes on after any death as if nothing had happened."""

import contextlib
import gc
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from bintally.card import ModelCard, read_card
from bintally.data.manifest import Manifest, digest_of
from bintally.errors import BintallyError, RunError, RunStoppedError, SettingsError
from bintally.learn import hosts
from bintally.learn import run as run_folder
from bintally.learn.device import Threads, make_fabric, pick_precision
from bintally.learn.listen import Listener
from bintally.learn.loop import Training
from bintally.learn.material import TrainingData
from bintally.learn.recipe import Recipe
from bintally.learn.refit import Refit, joined
from bintally.learn.shared import Shared
from bintally.learn.stopping import stop_signals
from bintally.learn.teacher import check_teacher
from bintally.progress import Progress, Silent
from bintally.scores import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a training ended.

    Attributes:
        run: its folder.
        card: the best epoch's card; its metrics hold the figures on the validation part. After a refit that of the model
            that learnt from both parts; `card.validation` has the figures of the training before.
        best_epoch: which one that was, from 1.
        epochs: how many were trained.
        seconds: over all processes that worked on it, and over both trainings.
        already: whether it had been finished before and nothing was done.
        is_main: whether this is the first process, the one to speak.
    """

    run: Path
    card: ModelCard
    best_epoch: int
    epochs: int
    seconds: float
    already: bool = False
    is_main: bool = True


def train(
    manifest: Manifest,
    run: Path,
    recipe: Recipe,
    *,
    restart: bool = False,
    listeners: Sequence[Listener] = (),
    progress: Progress | None = None,
) -> RunResult:
    """Trains a counter on a split manifest, or goes on with a training that was stopped.

    Args:
        manifest: with parts; "train" is learnt from, "validation" chooses the best epoch, and is learnt from as well
            where the recipe says so (`train.refit`).
        run: the folder for all that comes of it.
        recipe: what to train and how.
        restart: forget a run that is there.
        listeners: are told of every step and epoch.
        progress: is told how far it is.

    Returns:
        How it ended. A run that had been finished before is left as it is.

    Raises:
        ManifestError: no split, or parts that nothing can be learnt from.
        RunError: the folder holds something else or a run with other settings; the loss became infinite.
        RunStoppedError: SIGTERM or SIGINT came; a checkpoint was written, the same call goes on from it.
        BackboneError: the pretrained backbone cannot be had.
        ModelError: the teacher holds no trained model.
    """
    settings, progress = recipe.train, progress or Silent()
    is_main = hosts.is_first_process()  # Fabric starts this very program again for a host's other processes
    data = TrainingData.of(manifest)
    if settings.batch_size % (settings.hosts * settings.processes):
        raise SettingsError(
            f"train.batch_size = {settings.batch_size} cannot be shared by {settings.hosts * settings.processes} processes"
        )
    asked, digest = recipe.tables(), manifest.digest or digest_of(manifest)

    def look() -> dict[str, Any] | None:
        return None if restart else run_folder.check_run(run, asked, digest, Recipe().tables())

    if settings.hosts == 1:
        before = look()
    else:  # only the first host knows the run: it tells the others, so they all start first
        fabric = make_fabric(settings)
        fabric.launch()
        before = hosts.begin(fabric, run, digest, look)
    if before and before["status"] == "finished" and (not settings.refit or "refit" in before):
        return RunResult(
            run=run,
            card=read_card(run) if settings.hosts == 1 else hosts.card_of(fabric, run),
            best_epoch=before["best_epoch"],
            epochs=before["epochs"],
            seconds=before["seconds"],
            already=True,
            is_main=is_main,
        )
    check_teacher(recipe.teacher, manifest, data)
    if restart and is_main:
        run_folder.clear_run(run)
    if settings.hosts == 1:
        fabric = make_fabric(settings)
        fabric.launch()
    is_main = fabric.global_rank == 0
    if not is_main:
        progress, listeners = Silent(), ()
    if is_main and before is None:
        facts = {"device": str(fabric.device), "precision": pick_precision(settings), "photos": data.sizes()}
        run_folder.start_run(run, asked, manifest, facts)
    elif is_main:
        run_folder.note_run(run, "running", why="")
    if is_main:
        run_folder.keep_manifest(run, manifest)
    for name in data.empty:
        progress.message(f"no training photo holds {name}: the counter will hardly ever answer that")
    # Written when the first training is over, and never before.
    chosen = {key: before[key] for key in _CHOSEN} if before and "best_epoch" in before else {}
    if fabric.world_size > 1:  # what the others read may have been written by the first one since
        chosen = json.loads(hosts.share(fabric, json.dumps(chosen).encode()))
    with torch.random.fork_rng(devices=[]), Threads(settings.threads), stop_signals() as stop:
        if not chosen:
            shared = Shared(data)
            try:
                training = Training(fabric, shared, run, recipe, digest, listeners, progress, stop)
            except BintallyError:
                if is_main and before is None:
                    run_folder.clear_run(run)  # it never began: the folder is free for the next try
                raise
            else:
                with _noted(run, fabric):
                    _learn(training)
            finally:
                shared.close()
            state = training.state
            of_state = (state.best_epoch, len(state.history), round(state.seconds, 1))
            chosen = dict(zip(_CHOSEN, of_state, strict=True))
            del training
            gc.collect()  # it refers to itself, and its memory is wanted now
        told = chosen
        if settings.refit:
            epochs, both = chosen["best_epoch"], joined(manifest)
            if is_main:  # first: from here on it is the second training that goes on
                run_folder.note_run(run, "running", **chosen, settings=asked, refit={"epochs": epochs})
            progress.message(
                f"{epochs} epochs are best: trains anew on the training and validation parts for as many"
            )
            shared = Shared(TrainingData.of(both, judged=False))
            try:
                with _noted(run, fabric):
                    again = Refit(fabric, shared, run, recipe, both.digest, (), progress, stop, epochs=epochs)
                    _learn(again)
                    again.finish(both)
            finally:
                shared.close()
            seconds = round(again.state.seconds, 1)
            refit = {"epochs": epochs, "seconds": seconds, "photos": len(shared.data.train_paths)}
            told = chosen | {"seconds": round(chosen["seconds"] + seconds, 1), "refit": refit}
    fabric.barrier()
    if is_main:
        run_folder.finish_run(run, **told, why="")
    fabric.barrier()
    return RunResult(
        run=run,
        card=read_card(run) if settings.hosts == 1 else hosts.card_of(fabric, run),
        best_epoch=told["best_epoch"],
        epochs=told["epochs"],
        seconds=told["seconds"],
        is_main=is_main,
    )


_CHOSEN = ("best_epoch", "epochs", "seconds")
"""What run.json says of the first training once it is over."""


def _learn(training: Training) -> None:
    try:
        training.loop()
    finally:
        training.close()


@contextlib.contextmanager
def _noted(run: Path, fabric: Fabric) -> Iterator[None]:
    """Tells the run folder how a training ended that did not end well."""
    is_main = fabric.global_rank == 0
    try:
        yield
    except BintallyError as error:
        if is_main:
            status: run_folder.Status = "stopped" if isinstance(error, RunStoppedError) else "failed"
            run_folder.note_run(run, status, why=str(error))
        raise
    except RuntimeError as error:
        lost = hosts.broken_off(error) if fabric.world_size > 1 else None
        if lost is None:
            raise
        if is_main:
            run_folder.note_run(run, "failed", why=str(lost))
        raise lost from error


def keep_first(shared: Shared, recipe: Recipe, *, progress: Progress) -> None:
    """Computes the activations that trainings of a recipe keep, if they do, and trains nothing.

    Raises:
        RunStoppedError: SIGTERM or SIGINT came; what was computed is kept.
    """
    fabric = shared.fabric(recipe)
    with torch.random.fork_rng(devices=[]), Threads(recipe.train.threads), stop_signals() as stop:
        Training(fabric, shared, None, recipe, "", (), progress, stop)


def try_out(shared: Shared, recipe: Recipe, *, listeners: Sequence[Listener] = ()) -> Predictions:
    """Trains without a run folder: nothing is written, and a stop loses it. For the trials of a tuning.

    Args:
        shared: the photos, and what other trainings on them left to use again.
        recipe: what to train and how; `train.processes` is 1.
        listeners: as of `train`, but for `on_start`, since there is no run.

    Returns:
        The best epoch's predictions on the validation part.

    Raises:
        RunError: the loss became infinite.
        RunStoppedError: SIGTERM or SIGINT came.
    """
    if recipe.train.processes * recipe.train.hosts > 1:
        raise SettingsError("trials train in one process each: leave train.processes at 1")
    fabric = shared.fabric(recipe)
    with torch.random.fork_rng(devices=[]), Threads(recipe.train.threads), stop_signals() as stop:
        training = Training(fabric, shared, None, recipe, "", listeners, Silent(), stop)
        try:
            training.loop()
        finally:
            training.close()
    if training.best is None:
        raise RunError("the training ended before its first epoch did")
    return training.best
