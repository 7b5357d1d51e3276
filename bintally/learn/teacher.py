"""A teacher: a trained run whose answers to the training photos a new network learns beside their labels.

Knowledge distillation (Hinton et al. 2015, https://arxiv.org/abs/1503.02531). A label says that there are three; a teacher
says how likely two, three and four are, which is closer to what the photo shows where half the bin lies behind a band. An
ensemble as a teacher gives one small network much of what all of it knows; a network of the same kind may gain as
well (Furlanello et al. 2018, https://arxiv.org/abs/1805.04770).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import Tensor, nn

from bintally import files
from bintally.card import ModelCard
from bintally.data.manifest import Manifest, read_manifest
from bintally.errors import RunError, RunStoppedError
from bintally.learn import run as run_folder
from bintally.learn.loader import Photos
from bintally.learn.material import TrainingData
from bintally.learn.model import CountModel, load_run_model
from bintally.learn.stopping import Stop
from bintally.progress import Progress

_ANSWERS_FILE = f"{run_folder.CHECKPOINTS}/teacher.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """Whose answers are learnt beside the labels.

    Attributes:
        run: folder of a run, soup or ensemble of the same range; none by default. It must not have learnt from photos of
            this split's other parts. It answers once to each training photo as it is, with its mirror images and sizes.
        weight: share of its answers in the count's own loss; the labels have the rest.
    """

    run: str = ""
    weight: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A teacher's answers to the training photos.

    Attributes:
        probabilities: (num training photos, num classes).
        weight: see `TeacherSettings`.
    """

    probabilities: Tensor
    weight: float

    def loss(self, labels_loss: Tensor, logits: Tensor, places: Tensor) -> Tensor:
        """The count's loss for a batch: that of the labels, and the cross-entropy with the teacher's answers.

        Args:
            labels_loss: of the batch.
            logits: (n, num_classes).
            places: (n,) int64 the photos' places in the training part.
        """
        told = -(self.probabilities[places] * nn.functional.log_softmax(logits, dim=1)).sum(dim=1).mean()
        return (1 - self.weight) * labels_loss + self.weight * told


def check_teacher(settings: TeacherSettings, manifest: Manifest, data: TrainingData) -> None:
    """Looks whether the teacher may teach on this split.

    Raises:
        ModelError: there is no trained model.
        RunError: it counts another range, or learnt from photos that are kept apart here.
    """
    if not settings.run:
        return
    run = Path(settings.run)
    _, card = load_run_model(run)
    if card.counts != data.counts:
        raise RunError(
            f"the teacher {run} counts {card.counts}, and this split {data.counts}: train it on a split of that range"
        )
    learnt = {row.photo.sha256 for row in read_manifest(run / run_folder.SPLIT_FILE).of_part("train")}
    for part in ("validation", "calibration", "test"):
        seen = sum(row.photo.sha256 in learnt for row in manifest.of_part(part))
        if seen:
            raise RunError(
                f"the teacher {run} learnt from {seen} photos of this split's {part} part, which it would give away: "
                "take one that was trained on this very split, with train.refit=false"
            )


def answers_of(
    settings: TeacherSettings,
    data: TrainingData,
    fabric: Fabric,
    together: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    keep: Path | None,
    stop: Stop,
    progress: Progress,
) -> Teacher | None:
    """What the teacher says of every training photo: each process asks for its share, or all of it was kept.

    Args:
        settings: which one.
        data: the training photos.
        fabric: where and how exactly to compute.
        together: sums a tensor over all processes.
        batch_size: photos that go through it at once.
        keep: a run folder in which the answers are kept for a training that goes on; the first process's counts.
        stop: whether it is over.
        progress: is told how far it is.

    Returns:
        None when no teacher is named.

    Raises:
        RunStoppedError: SIGTERM or SIGINT came.
    """
    if not settings.run or not settings.weight:
        return None
    path = None if keep is None or fabric.global_rank else keep / _ANSWERS_FILE
    shape = (len(data.train_paths), data.counts.num_classes)
    kept = None if path is None else _kept(path, shape)
    logits = torch.zeros(shape) if kept is None else torch.from_numpy(kept)
    there = together(torch.tensor(float(kept is not None), device=fabric.device)).item()
    if not there:
        model, card = load_run_model(Path(settings.run))
        _ask(model, card, data, fabric, logits, batch_size, stop, progress)
        # Before they are kept: whoever is evaluated in between gets another temperature.
        logits /= card.calibration.temperature if card.calibration else 1.0
    logits = together(logits.to(fabric.device))
    if path is not None and kept is None:
        path.parent.mkdir(exist_ok=True)
        with files.replacing(path) as partial, partial.open("wb") as file:
            np.save(file, logits.cpu().numpy(), allow_pickle=False)
    return Teacher(probabilities=torch.softmax(logits, dim=1), weight=settings.weight)


def _kept(path: Path, shape: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]] | None:
    """Answers that an earlier part of this training left; nothing when there are none, or others."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values if values.shape == shape and values.dtype == np.float32 else None


@torch.inference_mode()
def _ask(
    model: CountModel,
    card: ModelCard,
    data: TrainingData,
    fabric: Fabric,
    logits: Tensor,
    batch_size: int,
    stop: Stop,
    progress: Progress,
) -> None:
    """Fills in the rows of this process's share."""
    model = model.to(fabric.device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
    places = np.arange(len(data.train_paths))[fabric.global_rank :: fabric.world_size]
    photos = Photos(data.train_paths, card.pixels, cache_mb=0)
    progress.begin("ask the teacher", len(places))
    try:
        for start in range(0, len(places), batch_size):
            chunk = places[start : start + batch_size]
            x_NCHW = torch.from_numpy(photos.batch(chunk)).to(fabric.device)
            with fabric.autocast():
                told = model(x_NCHW.contiguous(memory_format=torch.channels_last))
            logits[torch.from_numpy(chunk)] = told.float().cpu()
            progress.advance(len(chunk))
            if stop.signal and fabric.world_size == 1:  # else the others would wait: the first step asks them all
                raise RunStoppedError(
                    "stopped while the teacher was asked; nothing had been learnt yet", stop.exit_code
                )
    finally:
        progress.end()
        photos.close()
