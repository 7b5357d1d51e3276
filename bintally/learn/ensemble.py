"""An ensemble: several runs that answer side by side, as one run whose answer is the mean of theirs.

Deep ensembles (Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474): networks that were trained apart err
apart, so their mean is nearer and knows better how sure it is. It costs as much as all of them together. Which of
them help is found as in Caruana et al. 2004 (https://doi.org/10.1145/1015330.1015432), each taken once at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from bintally.data.manifest import read_manifest
from bintally.learn import run as run_folder
from bintally.learn.combine import Combined, Making, choose
from bintally.learn.device import pick_device
from bintally.learn.head import join_heads
from bintally.learn.loader import Photos
from bintally.learn.material import TrainingData
from bintally.learn.members import Members
from bintally.learn.memory import keep_freed_memory
from bintally.learn.model import CountModel, load_run_model
from bintally.progress import Progress
from bintally.scores import figures, predictions_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleSettings:
    """Which runs answer together.

    Attributes:
        method: "all": every one that was named; "greedy": from the best on the validation part on, each next one is
            taken in when the negative log-likelihood there does not get worse.
        batch_size: photos that go through a network at once.
        device: "auto", "cpu" or "cuda".
    """

    method: Literal["all", "greedy"] = "greedy"
    batch_size: Annotated[int, Field(ge=1)] = 32
    device: str = "auto"


def unite(
    runs: Sequence[Path], to: Path, settings: EnsembleSettings, progress: Progress, *, force: bool = False
) -> Combined:
    """Lays runs side by side into a new run folder, which `evaluate`, `export` and `count` take as any other.

    What is averaged are logits: with linear heads log-probabilities (a geometric mean), with ordinal ones the log-odds
    of each question. So the heads join into one over all pooled features, and the ensemble is one network.

    Args:
        runs: finished or not: their best weights are taken. Of one input, range, split and kind of head; the networks
            may differ.
        to: the folder to make; it appears at the end, whole, or not at all.
        settings: how.
        progress: is told how far it is.
        force: replace a run at `to`.

    Raises:
        ModelError: a folder holds no trained model.
        RunError: the runs do not fit together, or `to` holds something.
        ManifestError: the split is missing or damaged.
    """
    making = Making.begin("ensemble", runs, to, settings, force=force)
    loaded = {run: load_run_model(run) for run in runs}
    _, first = loaded[runs[0]]
    for run, (_, card) in loaded.items():
        making.check_fit(run, first, card)
    mirror = any(card.mirror for _, card in loaded.values())
    scales = next((card.scales for _, card in loaded.values() if card.scales), ())
    models = {run: model for run, (model, _) in loaded.items()}
    manifest = read_manifest(runs[0] / run_folder.SPLIT_FILE)
    data = TrainingData.of(manifest, judged=False)
    photos = Photos(data.validation_paths, first.pixels)
    try:
        pooled = {
            run: _pooled(model, photos, settings, progress, mirror=mirror, scales=scales)
            for run, model in models.items()
            if len(photos)
        }
    finally:
        photos.close()

    def score(those: Sequence[Path]) -> dict[str, float]:
        logits = _logits([models[one] for one in those], [pooled[one] for one in those], len(photos))
        return figures(predictions_of(logits.numpy(), data.validation_labels, data.counts, open_mean=data.open_mean))

    greedy, judged = settings.method == "greedy", bool(data.validation_paths)
    taken, tried = choose(making.runs, score, greedy=greedy, judged=judged)
    members = [models[run] for run in taken]
    backbone = Members([one.backbone for one in members])
    united = CountModel(backbone, data.counts.num_classes, unfrozen_stages=0, head=first.head, mirror=mirror)
    united.head = join_heads([one.head for one in members])
    united.eval().look_at(scales, first.pixels.size)
    card = replace(
        first,
        mirror=mirror,
        scales=scales,
        architecture=" | ".join(loaded[run][1].architecture for run in taken),
        notes=(),
    )
    ids = {run: loaded[run][1].model_id for run in taken}
    return making.finish(united, card, manifest, ids, tried, "answers averaged over")


@torch.inference_mode()
def _pooled(
    model: CountModel,
    photos: Photos,
    settings: EnsembleSettings,
    progress: Progress,
    *,
    mirror: bool,
    scales: tuple[int, ...],
) -> Tensor:
    """Pooled features (views · N, C) of all photos: view behind view, of every scale and its mirror images."""
    device = torch.device(pick_device(settings.device))
    if device.type == "cpu":
        keep_freed_memory()
    model.mirror = False  # views are laid behind one another here: a head over several networks comes later
    model.look_at(scales, photos.spec.size)
    model = model.to(device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
    views: list[list[Tensor]] = [[] for _ in range(max(1, len(scales)) * (2 if mirror else 1))]
    progress.begin("validate", len(photos))
    try:
        for start in range(0, len(photos), settings.batch_size):
            places = range(start, min(start + settings.batch_size, len(photos)))
            x_NCHW = torch.from_numpy(photos.batch(places)).to(device)
            seen = model.at_scales(x_NCHW)
            seen += [one.flip(3) for one in seen] if mirror else []
            for view, one in zip(views, seen, strict=True):
                h_NCHW = model.last_features(model.frozen_features(one.contiguous(memory_format=torch.channels_last)))
                view.append(h_NCHW.mean(dim=(2, 3)).cpu())
            progress.advance(len(places))
    finally:
        progress.end()
    model.cpu()
    return torch.cat([one for view in views for one in view])


@torch.inference_mode()
def _logits(models: Sequence[CountModel], pooled: Sequence[Tensor], num_photos: int) -> Tensor:
    logits: Tensor = join_heads([one.head for one in models])(torch.cat(list(pooled), dim=1))
    return logits.reshape(-1, num_photos, logits.shape[1]).mean(dim=0)
