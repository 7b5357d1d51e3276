"""The training loop: epochs of steps from wherever a checkpoint left it, each ending with a look at the validation part."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from bintally.card import ModelCard
from bintally.errors import RunError, RunStoppedError
from bintally.learn import run as run_folder
from bintally.learn.auxiliary import Auxiliary
from bintally.learn.average import Average
from bintally.learn.changes import numbered
from bintally.learn.checkpoint import load_checkpoint, restore, save_checkpoint
from bintally.learn.device import pick_precision
from bintally.learn.kept import KeptBatches, KeptValidation, input_mean
from bintally.learn.listen import Listener, Start
from bintally.learn.loader import Batches, ahead, class_factors
from bintally.learn.loss import make_loss
from bintally.learn.optim import make_optimizer, rate_factor, step_side
from bintally.learn.recipe import Recipe
from bintally.learn.shared import Shared
from bintally.learn.stopping import Stop
from bintally.learn.teacher import answers_of
from bintally.progress import Progress
from bintally.scores import Predictions, confusion, figures, predictions_of

_Input = NDArray[np.float32] | Tensor
"""Normalised photos, or kept activations of them."""


@dataclass(slots=True, kw_only=True)
class _State:
    # Where the loop is. All of it stands in every checkpoint; all else follows from (seed, epoch, step).
    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_nll: float | None = None
    seconds: float = 0.0
    loss: float = 0.0
    nll: float = 0.0
    correct: float = 0.0
    seen: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Training:
    """The loop and what it holds between steps."""

    checkpoint = run_folder.CHECKPOINT

    def __init__(
        self,
        fabric: Fabric,
        shared: Shared,
        run: Path | None,
        recipe: Recipe,
        digest: str,
        listeners: Sequence[Listener],
        progress: Progress,
        stop: Stop,
    ) -> None:
        data = shared.data
        self.fabric, self.data, self.run, self.recipe, self.digest = fabric, data, run, recipe, digest
        self.settings, self.listeners, self.progress, self.stop = recipe.train, listeners, progress, stop
        settings = recipe.train
        self.model = shared.model(recipe)
        shares = np.bincount(data.train_classes, minlength=data.counts.num_classes) / len(data.train_classes)
        self.model.start_from(shares.tolist())
        self.model.relu_in_place()
        auxiliary = Auxiliary.of(data, recipe.auxiliary)
        self.auxiliary = None if auxiliary is None else auxiliary.to(fabric.device)
        if auxiliary:
            self.model.teach_beside(auxiliary.start)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
        self.loss = make_loss(
            settings.loss,
            label_smoothing=settings.label_smoothing,
            width=settings.loss_width,
            mix=settings.loss_mix,
        )
        factors = class_factors(data.train_classes, data.counts.num_classes, settings.class_weights)
        self.factors = torch.tensor(factors, dtype=torch.float32, device=fabric.device)
        draws = class_factors(data.train_classes, data.counts.num_classes, settings.sampling)
        self.state, before = _State(), None
        self.best: Predictions | None = None
        self.teacher = answers_of(
            recipe.teacher,
            data,
            fabric,
            lambda values: self._over_processes(values, "sum"),
            batch_size=settings.batch_size,
            keep=run,
            stop=stop,
            progress=progress,
        )
        checkpoint = run / self.checkpoint if run else None
        if checkpoint and checkpoint.exists():
            before = load_checkpoint(checkpoint)
            self.model.load_trained_state(before.model)
            self.state = _State(**before.state)
            progress.message(f"goes on from epoch {self.state.epoch + 1}, step {self.state.step + 1}")
        optimizer = make_optimizer(self.model, settings)
        self.network, self.optimizer = fabric.setup(self.model, optimizer)
        self.network.mark_forward_method("from_frozen")
        self.network.mark_forward_method("with_auxiliary")
        self.average = Average(self.model, settings.ema) if settings.ema else None
        training, validation = shared.parts(recipe)
        precision = f"{pick_precision(settings)} on {fabric.device.type}"
        kept = shared.kept(recipe, self.model, self._frozen_features, precision, progress)
        order: dict[str, Any] = {
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            "weights": None if settings.sampling == "none" else draws[data.train_classes],
            "groups": numbered(data.train_groups) if recipe.auxiliary.changes else None,
            "rank": fabric.global_rank,
            "world": fabric.world_size,
        }
        self.validation_batch: Callable[[Any], _Input]
        self.kept_inputs = None if kept is None else input_mean(kept, training)
        if kept is None:
            self.batches = Batches(training.photos, data.train_classes, recipe.augment, **order)
            self.validation_batch = validation.photos.batch
            self.logits_of: Callable[[Tensor], Tensor] = self.network
            self.own_logits_of: Callable[[Tensor], Tensor] = self.model
        else:
            self.batches = KeptBatches(kept, training, data.train_classes, recipe.augment.flip, **order)
            self.validation_batch = KeptValidation(kept, validation, mirror=recipe.model.mirror).batch
            self.logits_of, self.own_logits_of = self._from_frozen, self.model.from_frozen
        if before is not None:
            restore(optimizer, before.optimizer)
            if self.average:
                self.average.load(before.average)
        self.saved = time.monotonic()

    def loop(self) -> None:
        """From where the state is to the last epoch, or to the end of patience."""
        state = self.state
        if self.run:
            start = Start(
                model=self.model,
                run=self.run,
                done=self._done,
                steps_per_epoch=self.batches.steps,
                settings=self.recipe.tables(),
                kept_inputs=self.kept_inputs,
            )
            for listener in self.listeners:
                listener.on_start(start)
        while not self._is_over():
            self.progress.begin(self._epoch_name(), self.batches.steps)
            self.progress.advance(state.step)
            started = time.monotonic() - state.seconds
            self.network.train()
            rest = range(state.step, self.batches.steps)
            batch: Callable[[int], tuple[_Input, NDArray[np.int64]]] = partial(self.batches.batch, state.epoch)
            for photos, classes in ahead(batch, rest):
                self._step(photos, classes)
                state.seconds = time.monotonic() - started
                self._maybe_save()
            self._end_epoch()
            state.seconds = time.monotonic() - started
            self.progress.end()

    def _is_over(self) -> bool:
        return self.state.epoch >= self.settings.epochs or self._out_of_patience()

    def _epoch_name(self) -> str:
        return f"epoch {self.state.epoch + 1} of {self.settings.epochs}"

    def _step(self, photos: _Input, classes: NDArray[np.int64]) -> None:
        state, settings, fabric = self.state, self.settings, self.fabric
        number = self._done + 1
        for listener in self.listeners:
            listener.on_loaded(number)
        x, y = self._input(self._sized(photos)), torch.from_numpy(classes).to(fabric.device)
        for listener in self.listeners:
            listener.on_batch(number, x, y)
        # Dropout's luck is the step's: a run that goes on draws what it would have drawn.
        self._seed((settings.seed << 24) + number * fabric.world_size + fabric.global_rank)
        factor = rate_factor(number - 1, settings.epochs * self.batches.steps, settings.schedule, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        x, order, share = self._mixed(x, number)
        logits, beside = self._answers(x)
        places = torch.from_numpy(self.batches.indices(state.epoch, state.step)).to(fabric.device)
        if order is None:
            loss = self._loss(logits, beside, y, places)
        else:
            loss = share * self._loss(logits, beside, y, places, mixed=True)
            loss = loss + (1 - share) * self._loss(logits, beside, y[order], places[order], mixed=True)
        with torch.no_grad():
            nll = nn.functional.cross_entropy(logits, y)
            hits = (logits.argmax(1) == y).float().mean()
            told = torch.stack([loss.detach(), nll, hits, torch.tensor(float(self.stop.signal), device=loss.device)])
            told = self._over_processes(told, "mean")
        loss_value, nll_value, hit_share, signal = told.tolist()
        if not math.isfinite(loss_value):
            for listener in self.listeners:
                listener.on_step(number, state.epoch + 1, loss_value)
            raise RunError(
                f"the loss is {loss_value} at epoch {state.epoch + 1}, step {state.step + 1}: lower train.head_lr and "
                "train.backbone_lr, or set train.precision to 32-true; then train with --restart"
            )
        for listener in self.listeners:
            listener.on_forward(number)
        fabric.backward(loss)
        for listener in self.listeners:
            listener.on_backward(number)
        if settings.clip:
            fabric.clip_gradients(self.network, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average:
            self.average.update(number)
        num = len(classes) * fabric.world_size
        state.step += 1
        state.loss += loss_value * num
        state.nll += nll_value * num
        state.correct += hit_share * num
        state.seen += num
        self.progress.advance(1, note=f"loss {state.loss / state.seen:.3f}")
        for listener in self.listeners:
            listener.on_step(number, state.epoch + 1, loss_value)
        if signal:
            self._stop_here()

    def _answers(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (N, K), and what the auxiliary head says where there is one."""
        if self.auxiliary is None:
            return self.logits_of(x).float(), None
        with self.fabric.autocast():
            logits, beside = self.network.with_auxiliary(x, kept=self.kept_inputs is not None)
        return logits.float(), beside

    def _loss(
        self, logits: Tensor, beside: Tensor | None, y: Tensor, places: Tensor, *, mixed: bool = False
    ) -> Tensor:
        loss = (self.loss(logits, y) * self.factors[y]).mean()
        if self.teacher is not None:
            loss = self.teacher.loss(loss, logits, places)
        if self.auxiliary is None or beside is None:
            return loss
        return loss + self.auxiliary.loss(beside, places, mixed=mixed)

    def _mixed(self, x: Tensor, number: int) -> tuple[Tensor, Tensor | None, float]:
        """The batch with each photo mixed with another one of it, which one that is, and the photos' own share."""
        strength = self.recipe.augment.mixup
        if not strength:
            return x, None, 1.0
        luck = np.random.default_rng((self.settings.seed, number, self.fabric.global_rank, 2))
        share = float(luck.beta(strength, strength))
        share = max(share, 1 - share)  # so that what is told of the training part is of the larger one
        order = torch.from_numpy(luck.permutation(len(x))).to(x.device)
        return torch.lerp(x[order], x, share), order, share

    def _end_epoch(self) -> None:
        state, data = self.state, self.data
        self._same_buffers()
        with self.average.in_place() if self.average else contextlib.nullcontext():
            predictions, row = self._judge()
        self._next_epoch()
        if self.run and self.fabric.global_rank == 0:
            run_folder.write_history(self.run, state.history)
            self._save()
        self.progress.message(
            f"epoch {row['epoch']}: loss {row['train_loss']:.3f}; validation: negative log-likelihood "
            f"{row['validation_nll']:.3f}, accuracy {row['validation_accuracy']:.1%}, within one "
            f"{row['validation_within_one']:.1%}, RMSE {row['validation_rmse']:.2f}"
            f"{', the best so far' if state.best_epoch == row['epoch'] else ''}"
        )
        matrix = confusion(predictions)[data.counts.lowest :, data.counts.lowest :]
        for listener in self.listeners:
            listener.on_epoch(row["step"], row, matrix)

    def _next_epoch(self) -> None:
        self.state.epoch, self.state.step = self.state.epoch + 1, 0
        self.state.loss = self.state.nll = self.state.correct = self.state.seen = 0.0

    def _judge(self) -> tuple[Predictions, dict[str, Any]]:
        """Validates the model as it is now and keeps it when it is the best so far; the epoch's line of history."""
        state = self.state
        predictions = self._validate()
        found = figures(predictions)
        row: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "step": self._done,
            "head_lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": state.loss / state.seen,
            "train_nll": state.nll / state.seen,
            "train_accuracy": state.correct / state.seen,
            **{f"validation_{name}": value for name, value in found.items()},
            "seconds": round(state.seconds, 1),
        }
        state.history.append(row)
        if state.best_nll is None or found["nll"] < state.best_nll:
            state.best_nll, state.best_epoch = found["nll"], state.epoch + 1
            self.best = predictions
            if self.run and self.fabric.global_rank == 0:
                self._save_model(self.run, self._card(found))
        return predictions, row

    def _save_model(self, run: Path, card: ModelCard) -> None:
        config: Any = self.model.backbone.config
        run_folder.save_best(run, self.model.counting_state(), config.to_dict(), card)

    def _same_buffers(self) -> None:
        """Batch norm's statistics are those of the first process."""
        if self.fabric.world_size > 1:
            for buffer in self.model.buffers():
                mine = torch.zeros_like(buffer) if self.fabric.global_rank else buffer.clone()
                buffer.copy_(self._over_processes(mine, "sum"))

    @torch.no_grad()
    def _validate(self) -> Predictions:
        fabric, data, size = self.fabric, self.data, self.settings.batch_size
        self._same_buffers()
        self.model.eval()
        places = np.arange(len(data.validation_paths))[fabric.global_rank :: fabric.world_size]
        chunks = [places[start : start + size] for start in range(0, len(places), size)]
        logits = torch.zeros(len(data.validation_paths), data.counts.num_classes, device=fabric.device)
        for chunk, photos in zip(chunks, ahead(self.validation_batch, chunks), strict=True):
            with fabric.autocast():
                logits[torch.from_numpy(chunk).to(fabric.device)] = self.own_logits_of(self._input(photos)).float()
            if fabric.world_size == 1 and self.stop.signal:
                self._stop_here()
        values = self._over_processes(logits, "sum").cpu().numpy()
        if not np.isfinite(values).all():
            raise RunError(
                f"the network's answers are not finite after epoch {self.state.epoch + 1}: lower train.head_lr and "
                "train.backbone_lr; then train with --restart"
            )
        return predictions_of(values, data.validation_labels, data.counts, open_mean=data.open_mean)

    def _card(self, found: Mapping[str, float]) -> ModelCard:
        data = self.data
        return ModelCard(
            architecture=f"{self.recipe.model.backbone} + {self.recipe.model.head} head",
            head=self.recipe.model.head,
            mirror=self.recipe.model.mirror,
            scales=self.recipe.model.scales,
            pixels=self.recipe.pixels,
            counts=data.counts,
            open_mean=data.open_mean,
            manifest_digest=self.digest,
            manifest=data.line,
            metrics={"validation": dict(found), "best_epoch": self.state.best_epoch},
        )

    @property
    def _done(self) -> int:
        return self.state.epoch * self.batches.steps + self.state.step

    def _seed(self, seed: int) -> None:
        # As torch.manual_seed, which takes a millisecond to note for devices that are not there.
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _frozen_features(self, photos: Tensor) -> Tensor:
        if self.stop.signal:
            raise RunStoppedError(
                "stopped while activations were computed; the same command goes on from there", self.stop.exit_code
            )
        with self.fabric.autocast():
            return self.model.frozen_features(self._input(photos))

    def _from_frozen(self, features: Tensor) -> Tensor:
        with self.fabric.autocast():  # the wrapper brings it to `forward` alone
            logits: Tensor = self.network.from_frozen(features)
        return logits

    def _input(self, photos: _Input) -> Tensor:
        x = (photos if isinstance(photos, Tensor) else torch.from_numpy(photos)).to(self.fabric.device)
        return x.contiguous(memory_format=torch.channels_last) if self.settings.channels_last else x

    def _sized(self, photos: _Input) -> _Input:
        """The photos at the step's side; kept activations have none."""
        if isinstance(photos, Tensor):
            return photos
        full = photos.shape[-1]
        side = step_side(self.settings, self.state.epoch, self._done, full)
        if side == full:
            return photos
        # As `pixels.to_square` makes a photo smaller.
        return nn.functional.interpolate(
            torch.from_numpy(photos), (side, side), mode="bilinear", align_corners=False, antialias=True
        )

    def _over_processes(self, values: Tensor, how: str) -> Tensor:
        if self.fabric.world_size == 1:
            return values
        reduced = self.fabric.all_reduce(values, reduce_op=how)
        assert isinstance(reduced, Tensor)  # noqa: S101 - the types of what is given and taken are the same
        return reduced

    def _out_of_patience(self) -> bool:
        state, patience = self.state, self.settings.patience
        over = bool(patience and state.best_epoch and state.epoch - state.best_epoch >= patience)
        if over:
            self.progress.message(f"no better epoch than {state.best_epoch} in {patience}: enough")
        return over

    def _maybe_save(self) -> None:
        every = self.settings.checkpoint_every_steps
        due = (every and self.state.step % every == 0) or (
            time.monotonic() - self.saved > self.settings.checkpoint_every_seconds
        )
        if due and self.fabric.global_rank == 0:
            self._save()

    def _save(self) -> None:
        if self.run is None:
            return
        save_checkpoint(
            self.run / self.checkpoint,
            self.average.trained if self.average else self.model.trained_state(),
            self.optimizer.state_dict(),
            dataclasses.asdict(self.state),
            self.average.state if self.average else None,
        )
        self.saved = time.monotonic()

    def _stop_here(self) -> None:
        if self.fabric.global_rank == 0:
            self._save()
        self.fabric.barrier()
        where = f"epoch {self.state.epoch + 1}, step {self.state.step}"
        raise RunStoppedError(f"stopped after {where}; the same command goes on from there", self.stop.exit_code)

    def close(self) -> None:
        """Ends bars."""
        self.progress.end()
        for listener in self.listeners:
            listener.on_end()
