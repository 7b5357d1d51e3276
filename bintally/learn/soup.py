"""A soup: the weights of several runs averaged into one run, which costs no more to ask than each of them.

Model soups (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482): runs that start from the same pretrained weights
mostly end in one basin, and the middle of it generalises better than its rims. Runs of different pretraining, or
trained from scratch, have no middle: a greedy soup then keeps the best of them alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from bintally.card import ModelCard
from bintally.data.manifest import Manifest, read_manifest
from bintally.errors import RunError
from bintally.learn import run as run_folder
from bintally.learn.combine import Combined, Making, choose
from bintally.learn.device import pick_device
from bintally.learn.loader import Photos
from bintally.learn.material import TrainingData
from bintally.learn.memory import keep_freed_memory
from bintally.learn.model import BACKBONE_FILE, CountModel, Side, load_run_model
from bintally.progress import Progress
from bintally.scores import figures, predictions_of

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoupSettings:
    """How runs are averaged.

    Attributes:
        method: "uniform": all of them; "greedy": from the best on the validation part on, each next one is taken in
            when the negative log-likelihood there does not get worse.
        mirror: "as-runs": as the first run's card says; "on" and "off": see `model.mirror`. A soup of one run is the
            same run with that changed.
        scales: sides at which the answer looks at a photo, see `model.scales`; "as-runs": as the first run's card says.
        statistics: training photos from which batch norm's statistics are taken anew. Averaged weights give other
            activations than any of the runs: averages of the runs' statistics would not fit them. Layers that all
            runs left frozen keep theirs.
        batch_size: photos that go through the network at once.
        seed: which photos the statistics are taken from.
        device: "auto", "cpu" or "cuda".
    """

    method: Literal["uniform", "greedy"] = "greedy"
    mirror: Literal["as-runs", "on", "off"] = "as-runs"
    scales: tuple[Side, ...] | Literal["as-runs"] = "as-runs"
    statistics: Annotated[int, Field(ge=1)] = 2048
    batch_size: Annotated[int, Field(ge=1)] = 32
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "auto"


def cook(
    runs: Sequence[Path], to: Path, settings: SoupSettings, progress: Progress, *, force: bool = False
) -> Combined:
    """Averages runs into a new run folder, which `evaluate`, `export` and `count` take as any other.

    Args:
        runs: finished or not: their best weights are taken. Of one network, input, range and split.
        to: the folder to make; it appears at the end, whole, or not at all.
        settings: how.
        progress: is told how far it is.
        force: replace a run at `to`.

    Raises:
        ModelError: a folder holds no trained model.
        RunError: the runs do not fit together, or `to` holds something.
        ManifestError: the split is missing or damaged.
    """
    making = Making.begin("soup", runs, to, settings, force=force)
    (model, card), states, ids = load_run_model(runs[0]), {}, {}
    for run in runs:
        other, its = load_run_model(run)
        states[run], ids[run] = other.state_dict(), its.model_id
        making.check_fit(run, card, its)
        _check_shapes(runs[0], run, states)
    mirror = card.mirror if settings.mirror == "as-runs" else settings.mirror == "on"
    model.mirror = mirror
    scales = card.scales if settings.scales == "as-runs" else settings.scales
    model.look_at(scales, card.pixels.size)
    card = replace(card, mirror=mirror, scales=scales)
    manifest = read_manifest(runs[0] / run_folder.SPLIT_FILE)
    with _Kitchen(model, card, manifest, settings, progress) as kitchen:
        taken, tried = choose(
            making.runs,
            lambda those: kitchen.taste([states[one] for one in those]),
            greedy=settings.method == "greedy",
            judged=kitchen.judged,
        )
        if not kitchen.judged:
            kitchen.mix([states[one] for one in taken])
        state, _ = kitchen.best
    model.load_state_dict(state)
    return making.finish(model, card, manifest, {run: ids[run] for run in taken}, tried, "weights averaged over")


class _Kitchen:
    """Averages weights, gives them their statistics, scores them, and keeps the best of what was scored."""

    def __init__(
        self, model: CountModel, card: ModelCard, manifest: Manifest, settings: SoupSettings, progress: Progress
    ) -> None:
        self._settings, self._card, self._progress = settings, card, progress
        self._device = torch.device(pick_device(settings.device))
        if self._device.type == "cpu":
            keep_freed_memory()
        self._model = model.to(self._device).eval()
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
        self._data = TrainingData.of(manifest, judged=False)
        self.judged = bool(self._data.validation_paths)
        order = np.random.default_rng(settings.seed).permutation(len(self._data.train_paths))
        shown = [self._data.train_paths[place] for place in sorted(order[: settings.statistics].tolist())]
        self._photos = (Photos(shown, card.pixels), Photos(self._data.validation_paths, card.pixels))
        self.best: tuple[State, dict[str, float]] = ({}, {})

    def __enter__(self) -> "_Kitchen":
        return self

    def __exit__(self, *_: object) -> None:
        for photos in self._photos:
            photos.close()

    def taste(self, states: Sequence[State]) -> dict[str, float]:
        """Figures of an average on the validation part."""
        mixed = self._mixed(states)
        found = self._score()
        if not self.best[1] or found["nll"] <= self.best[1]["nll"]:
            self.best = mixed, found
        return found

    def mix(self, states: Sequence[State]) -> None:
        """Takes an average as the best one, unseen."""
        self.best = self._mixed(states), {}

    def _mixed(self, states: Sequence[State]) -> State:
        self._model.load_state_dict(average(states))
        self._settle(unsettled(states))
        return {name: value.clone().cpu() for name, value in self._model.state_dict().items()}

    @torch.inference_mode()
    def _settle(self, names: Sequence[str]) -> None:
        norms = [self._model.get_submodule(name) for name in names]
        if not norms:
            return
        before = [(norm, norm.momentum) for norm in norms if isinstance(norm, nn.BatchNorm2d)]
        for norm, _ in before:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        try:
            self._answers(self._photos[0], "batch norm's statistics")
        finally:
            for norm, momentum in before:
                norm.momentum = momentum
                norm.eval()

    @torch.inference_mode()
    def _score(self) -> dict[str, float]:
        data = self._data
        logits = self._answers(self._photos[1], "validate")
        said = predictions_of(logits.numpy(), data.validation_labels, data.counts, open_mean=data.open_mean)
        return figures(said)

    def _answers(self, photos: Photos, task: str) -> Tensor:
        answers, size = [], self._settings.batch_size
        self._progress.begin(task, len(photos))
        try:
            for start in range(0, len(photos), size):
                places = range(start, min(start + size, len(photos)))
                x_NCHW = torch.from_numpy(photos.batch(places)).to(self._device)
                answers.append(self._model(x_NCHW.contiguous(memory_format=torch.channels_last)).cpu())
                self._progress.advance(len(places))
        finally:
            self._progress.end()
        return torch.cat(answers)


def average(states: Sequence[State]) -> State:
    """The mean of state dicts of one network; what counts batches is the first one's."""
    mixed = {}
    for name, value in states[0].items():
        if value.is_floating_point() and len(states) > 1:
            # In float64: the order of the runs does not matter then.
            mixed[name] = torch.stack([one[name].double() for one in states]).mean(dim=0).to(value.dtype)
        else:
            mixed[name] = value
    return mixed


def unsettled(states: Sequence[State]) -> list[str]:
    """Names of the batch norm layers whose statistics differ between the runs: those that were trained."""
    ends = ".running_mean"
    names = [name for name in states[0] if name.endswith(ends)]
    return [
        name.removesuffix(ends)
        for name in names
        if any(not torch.equal(states[0][name], other[name]) for other in states[1:])
    ]


def _check_shapes(first: Path, second: Path, states: Mapping[Path, State]) -> None:
    shapes = [{name: value.shape for name, value in states[run].items()} for run in (first, second)]
    if shapes[0] != shapes[1]:
        raise RunError(
            f"{first} and {second} cannot be averaged: they are different networks (see {BACKBONE_FILE} in each); "
            "`bintally ensemble` lets them answer side by side"
        )
