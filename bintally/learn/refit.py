"""Training again on the training and validation parts together, once the validation part has said for how long.

The photos that chose the epoch are the next thing to learn from, and a counter grows with photos more than with anything else
(docs/experiments.md). What scores the result is kept apart as before: the calibration and test parts.
"""

import contextlib
import shutil
from dataclasses import replace
from typing import Any

from bintally.card import BEFORE_REFIT, ModelCard, read_card
from bintally.data.manifest import PARTS, Manifest, Row, digest_of, write_manifest
from bintally.errors import RunError
from bintally.learn import run as run_folder
from bintally.learn.evaluate import evaluation_folder
from bintally.learn.loop import Training


def joined(manifest: Manifest) -> Manifest:
    """The split with its validation part in its training part, so that whoever reads it knows what was learnt from."""

    def place(row: Row) -> Row:
        return replace(row, part="train") if row.part == "validation" else row

    made = replace(manifest, rows=tuple(place(row) for row in manifest.rows))
    return replace(made, digest=digest_of(made))


class Refit(Training):
    """The loop for a number of epochs that is known, without validation and listeners.

    Rates fall as over all of the recipe's epochs: it is the first training with more photos, ended where that was best.

    Args:
        epochs: how many.
        more: as of `Training`.
    """

    checkpoint = run_folder.REFIT_CHECKPOINT

    def __init__(self, *more: Any, epochs: int) -> None:
        super().__init__(*more)
        self._epochs = epochs

    def _is_over(self) -> bool:
        return self.state.epoch >= self._epochs

    def _epoch_name(self) -> str:
        return f"on both parts, epoch {self.state.epoch + 1} of {self._epochs}"

    def _end_epoch(self) -> None:
        state = self.state
        told = f"on both parts, epoch {state.epoch + 1}: loss {state.loss / state.seen:.3f}"
        self._same_buffers()
        self._next_epoch()
        if self.fabric.global_rank == 0:
            self._save()
        self.progress.message(told)

    def finish(self, manifest: Manifest) -> None:
        """Puts the weights, their card and the joined split in the place of the first training's.

        Evaluations of that one go: they are of another model. Killed in between, it is done again by whoever goes on: nothing
        of the checkpoint is gone by then.

        Args:
            manifest: what `joined` made.

        Raises:
            RunError: the weights are not finite.
        """
        self._same_buffers()
        with self.average.in_place() if self.average else contextlib.nullcontext():
            if not all(value.isfinite().all() for value in self.model.counting_state().values()):
                raise RunError(
                    "the network's weights are not finite after the training on both parts: lower train.head_lr and "
                    "train.backbone_lr; then train with --restart"
                )
            if self.run is None or self.fabric.global_rank:
                return
            before = read_card(self.run, check_files=False)
            for part in PARTS:
                shutil.rmtree(evaluation_folder(self.run, part), ignore_errors=True)
            write_manifest(self.run / run_folder.SPLIT_FILE, manifest)
            self._save_model(self.run, self._refit_card(before))

    def _refit_card(self, before: ModelCard) -> ModelCard:
        return replace(
            self._card({}),
            metrics={BEFORE_REFIT: before.validation, "best_epoch": self._epochs},
            notes=(_NOTE.format(self._epochs),),
        )


_NOTE = "learnt from the validation part as well, over {} epochs that were chosen on it before"
