"""The network of a counter: a backbone that ends in a feature map, average pooling, one layer over counts."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import huggingface_hub
import torch
import transformers
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bintally.card import ModelCard, read_card
from bintally.counts import CountRange
from bintally.errors import BackboneError, ModelError
from bintally.learn.head import HeadKind, make_head, start_head
from bintally.learn.members import KIND, Members, MembersConfig, stages_of
from bintally.learn.scales import resize_matrix, resized

WEIGHTS_FILE = "model.safetensors"
BACKBONE_FILE = "backbone.json"
TINY = "tiny"

Side = Annotated[int, Field(ge=32, le=4096)]
"""Of a photo as a network looks at it, in pixels: not below the stride of the backbones."""

_AUTO: Any = transformers.AutoModel
_LOGGING: Any = transformers.utils.logging


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What network to build.

    Attributes:
        backbone: a hub id, a local snapshot folder (config.json and model.safetensors), or "tiny": a small ResNet
            from scratch for drawn bins, which is always trained in full.
        unfrozen_stages: how many of the backbone's last stages are trained; 0 trains the head alone. A ResNet has
            four stages and the stem: 5 trains everything.
        dropout: share of the pooled features that is dropped in training, before the head.
        head: "linear": a logit a count; "corn" and "coral" know that counts are ordered: see `bintally.learn.head`.
        mirror: whether the answer to a photo is the mean over itself and its mirror image, at twice the work: in
            validation, `evaluate` and `count`, and in what is exported and served. Training sees one view at a time.
        scales: sides in pixels at which the answer looks at a photo, such as [160, 224, 288] for one of 224: it is the mean
            over all of them, at the price of all. None looks at the input as it is. In `evaluate` and `count`, and in what
            is exported and served, and not in the validation of each epoch, which would take as long as the epoch.
    """

    backbone: Annotated[str, Field(min_length=1)] = "microsoft/resnet-50"
    unfrozen_stages: Annotated[int, Field(ge=0, le=16)] = 0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    head: HeadKind = "linear"
    mirror: bool = False
    scales: tuple[Side, ...] = ()


class CountModel(nn.Module):
    """Logits over counts from normalised photos.

    Frozen stages get no gradients, run without an autograd graph, and keep their batch norm in evaluation mode
    whatever `train` says: their statistics are part of what was pretrained.

    Attributes:
        backbone: a transformers vision model whose stages map (N, C, H, W) to (N, C', H', W').
        head: from the backbone's channels to the classes; class k is the count `counts.lowest + k`.
        num_frozen: how many of the backbone's parts (stem, stage 1, …) are frozen.
        mirror: whether logits and maps are the means over each photo and its mirror image, in evaluation mode. The
            mean of logits is, after the softmax, that of log-probabilities.
        scales: sides at which `forward` looks at each photo in evaluation mode: see `look_at`.
        auxiliary: a second head, of training alone: see `teach_beside`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        unfrozen_stages: int,
        dropout: float = 0.0,
        head: HeadKind = "linear",
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.mirror = mirror
        parts = stages_of(backbone)
        self.num_frozen = max(0, len(parts) - unfrozen_stages)
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)  # also what lies behind the last stage, which is not run
        for part in parts[self.num_frozen :]:
            for parameter in part.parameters():
                parameter.requires_grad_(True)
        self.dropout = nn.Dropout(dropout)
        self.head = make_head(head, _num_channels(backbone), num_classes)
        self.auxiliary: nn.Linear | None = None
        self.scales: tuple[int, ...] = ()

    def look_at(self, scales: Sequence[int], size: int) -> None:
        """From now on logits and maps are means over these sides of each photo, in evaluation mode; none is as it is.

        Args:
            scales: sides in pixels.
            size: of the photos that `forward` is given.
        """
        self.scales = tuple(scales)
        for side in self.scales:
            to, back = resize_matrix(size, side), resize_matrix(self._map_side(side), self._map_side(size))
            # Not in the state dict: they follow from the card.
            self.register_buffer(f"_to_{side}", torch.from_numpy(to), persistent=False)
            self.register_buffer(f"_back_{side}", torch.from_numpy(back), persistent=False)

    def relu_in_place(self) -> None:
        """Has ReLUs write over what they are given, which no gradient asks for: one pass over memory less for each."""
        for module in self.backbone.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = True

    def teach_beside(self, start: Tensor) -> None:
        """Adds a head for auxiliary targets, whose first answers are these: see `bintally.learn.auxiliary`."""
        self.auxiliary = nn.Linear(_num_channels(self.backbone), len(start))
        nn.init.normal_(self.auxiliary.weight, std=0.01)
        with torch.no_grad():
            self.auxiliary.bias.copy_(start)

    def start_from(self, shares: Sequence[float]) -> None:
        """Sets the head's bias so that the first answer is the class shares, whatever the photo (about).

        Args:
            shares: the training labels' share per class; classes without any count as a rare one.
        """
        start_head(self.head, shares)

    def train(self, mode: bool = True) -> "CountModel":
        """Training or evaluation mode; frozen parts stay in evaluation mode."""
        trained = stages_of(self.backbone)[self.num_frozen :]
        if not self.num_frozen:
            return super().train(mode)
        self.training = mode
        self.dropout.train(mode)
        self.head.train(mode)
        if self.auxiliary is not None:
            self.auxiliary.train(mode)
        if trained or self.backbone.training:  # setting hundreds of modules takes longer than a step of a head alone
            self.backbone.train(False)
        for part in trained:
            part.train(mode)
        return self

    @property
    def trained_parts(self) -> list[nn.Module]:
        """The backbone's parts that are trained, in order."""
        return stages_of(self.backbone)[self.num_frozen :]

    @property
    def frozen_parts(self) -> list[nn.Module]:
        """The backbone's parts that are frozen, in order, from the stem on."""
        return stages_of(self.backbone)[: self.num_frozen]

    def trained_state(self) -> dict[str, Tensor]:
        """The state dict without the frozen parts, which stay as they were pretrained."""
        frozen = {id(part) for part in self.frozen_parts}
        prefixes = tuple(f"{name}." for name, module in self.named_modules() if id(module) in frozen)
        return {name: value for name, value in self.state_dict().items() if not name.startswith(prefixes)}

    def counting_state(self) -> dict[str, Tensor]:
        """The state dict without what only training needs."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("auxiliary.")}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes what `trained_state` gave.

        Raises:
            RuntimeError: it is of another network, or of other frozen parts.
        """
        if state.keys() != self.trained_state().keys():
            raise RuntimeError("the weights are those of another network")
        self.load_state_dict(state, strict=False)

    def frozen_features(self, x_NCHW: Tensor) -> Tensor:
        """What the frozen parts make of normalised photos; the photos themselves when nothing is frozen."""
        with torch.no_grad():
            for part in stages_of(self.backbone)[: self.num_frozen]:
                x_NCHW = _run(part, x_NCHW)
        return x_NCHW

    def last_features(self, h_NCHW: Tensor) -> Tensor:
        """The last feature map (N, channels, h, w) from the frozen parts' output."""
        for part in stages_of(self.backbone)[self.num_frozen :]:
            h_NCHW = _run(part, h_NCHW)
        return h_NCHW

    def logits_of(self, h_NCHW: Tensor) -> Tensor:
        """Logits (N, num_classes) from the last feature map."""
        return _tensor(self.head(self._pooled(h_NCHW)))

    def with_auxiliary(self, x_NCHW: Tensor, *, kept: bool) -> tuple[Tensor, Tensor]:
        """Logits (N, num_classes), and what the auxiliary head says (N, num_targets).

        Args:
            x_NCHW: normalised photos; or what `frozen_features` gave, where `kept`.
            kept: which of them.
        """
        assert self.auxiliary is not None  # noqa: S101 - who asks has called `teach_beside`
        pooled = self._pooled(self.last_features(x_NCHW if kept else self.frozen_features(x_NCHW)))
        return _tensor(self.head(pooled)), _tensor(self.auxiliary(pooled))

    def from_frozen(self, h_NCHW: Tensor) -> Tensor:
        """Logits (N, num_classes) from what `frozen_features` gave, now or long ago.

        A mirroring model in evaluation mode takes 2 N: those of all photos, then those of their mirror images.
        """
        logits = self.logits_of(self.last_features(h_NCHW))
        if not self._mirrors:
            return logits
        both = logits.reshape(2, -1, logits.shape[1])
        return (both[0] + both[1]) / 2

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Logits (N, num_classes) of normalised photos (N, 3, size, size)."""
        answers = [self.from_frozen(self.frozen_features(self._views(x))) for x in self.at_scales(x_NCHW)]
        return torch.stack(answers).mean(dim=0) if len(answers) > 1 else answers[0]

    def forward_maps(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and class activation maps (Zhou et al. 2016, https://arxiv.org/abs/1512.04150).

        Returns:
            Logits (N, num_classes) and maps (N, num_classes, h, w). With a linear head a map's mean plus the bias is
            the logit; with an ordinal one a map is what each place adds to it, to first order. Maps of several scales
            are brought to one size, which keeps their means but for the edges.
        """
        both = [self._answer_and_maps(x) for x in self.at_scales(x_NCHW)]
        if not self._scales_now:
            return both[0]
        maps = [
            resized(maps, self.get_buffer(f"_back_{side}"))
            for side, (_, maps) in zip(self._scales_now, both, strict=True)
        ]
        return torch.stack([logits for logits, _ in both]).mean(dim=0), torch.stack(maps).mean(dim=0)

    def _answer_and_maps(self, x_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        features = self.last_features(self.frozen_features(self._views(x_NCHW)))
        logits, maps = self.logits_of(features), self.head.maps(features)
        if not self._mirrors:
            return logits, maps
        both, all_maps = logits.reshape(2, -1, logits.shape[1]), maps.reshape(2, -1, *maps.shape[1:])
        return (both[0] + both[1]) / 2, (all_maps[0] + all_maps[1].flip(3)) / 2

    @property
    def _scales_now(self) -> tuple[int, ...]:
        return () if self.training else self.scales

    def at_scales(self, x_NCHW: Tensor) -> list[Tensor]:
        """The photos at each side that the answer looks at; as they are when there is none, or in training."""
        if not self._scales_now:
            return [x_NCHW]
        # What a product of matrices leaves lies by channels; convolutions want them last.
        return [
            x_NCHW
            if side == x_NCHW.shape[-1]
            else resized(x_NCHW, self.get_buffer(f"_to_{side}")).contiguous(memory_format=torch.channels_last)
            for side in self._scales_now
        ]

    def _map_side(self, side: int) -> int:
        """The side of the feature map of photos of that side."""
        was_training = self.training
        self.eval()  # or the zeros would go into batch norm's statistics
        with torch.no_grad():
            first = next(self.backbone.parameters())
            h_NCHW = self.last_features(self.frozen_features(first.new_zeros(2, 3, side, side)))
        self.train(was_training)
        return int(h_NCHW.shape[-1])

    def _pooled(self, h_NCHW: Tensor) -> Tensor:
        # Pooled features that were kept come as a map of one pixel: the mean of it is itself, but takes its time.
        pooled = h_NCHW.flatten(1) if h_NCHW.shape[2:] == (1, 1) else h_NCHW.mean(dim=(2, 3))
        return _tensor(self.dropout(pooled))

    @property
    def _mirrors(self) -> bool:
        return self.mirror and not self.training

    def _views(self, x_NCHW: Tensor) -> Tensor:
        return torch.cat([x_NCHW, x_NCHW.flip(3)]) if self._mirrors else x_NCHW


def build_model(settings: ModelSettings, counts: CountRange) -> CountModel:
    """Builds a network with its pretrained backbone (or a new small one) and a new head.

    Random weights come from torch's generator: seed it first.

    Raises:
        BackboneError: the backbone is unknown, cannot be had here, or does not end in a feature map.
    """
    if settings.backbone == TINY:
        backbone = _new(tiny_config())
        unfrozen = len(stages_of(backbone))
    else:
        with torch.random.fork_rng(devices=[]):  # the head's luck is the same wherever the backbone comes from
            backbone = _pretrained(settings.backbone)
        unfrozen = settings.unfrozen_stages
    return CountModel(
        backbone,
        counts.num_classes,
        unfrozen_stages=unfrozen,
        dropout=settings.dropout,
        head=settings.head,
        mirror=settings.mirror,
    )


def load_run_model(run: Path) -> tuple[CountModel, ModelCard]:
    """Loads a run's best weights, in evaluation mode, all frozen.

    Raises:
        ModelError: the folder holds no trained model, or its files differ from its card.
    """
    card = read_card(run)
    if card.kind != "trained":
        raise ModelError(f"{run} holds an {card.kind} model, not a run of `bintally train`")
    for name in (WEIGHTS_FILE, BACKBONE_FILE):
        if name not in card.files:
            raise ModelError(f"{run}: the card names no {name}: train or copy the run again")
    try:
        config = _config_of(run / BACKBONE_FILE)
        backbone, num_classes = _new(config), card.counts.num_classes
        model = CountModel(backbone, num_classes, unfrozen_stages=0, head=card.head, mirror=card.mirror)
        model.load_state_dict(load_file(run / WEIGHTS_FILE))
        model.eval().look_at(card.scales, card.pixels.size)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{run} cannot be loaded: {error}") from error
    return model.eval(), card


def tiny_config() -> Any:
    """A ResNet of three stages of basic layers, about 0.7 million weights: quick at 64-96 pixels on two cores."""
    return transformers.ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128], depths=[1, 2, 2], layer_type="basic", hidden_act="relu"
    )


def _config_of(path: Path) -> Any:
    return _config_from(json.loads(path.read_text(encoding="utf-8")))


def _config_from(values: dict[str, Any]) -> Any:
    kind = values.pop("model_type")
    if kind == KIND:
        return MembersConfig(tuple(_config_from(one) for one in values["members"]))
    return transformers.AutoConfig.for_model(kind, **values)


def _new(config: Any) -> nn.Module:
    if isinstance(config, MembersConfig):
        return Members([_new(one) for one in config.members])
    with _quiet():
        model: nn.Module = _AUTO.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return model


SNAPSHOT_VARIABLE = "BINTALLY_SNAPSHOT"
"""Names a local snapshot folder of the backbone that a recipe calls by its hub id, for machines without the hub."""


def _pretrained(name: str) -> nn.Module:
    folder = Path(name).expanduser()
    is_path = folder.is_dir() or name.startswith(("/", ".", "~"))
    if not is_path and os.environ.get(SNAPSHOT_VARIABLE):
        folder, is_path = Path(os.environ[SNAPSHOT_VARIABLE]), True
    if is_path and not (folder / "config.json").is_file():
        raise BackboneError(
            f"{folder} is no snapshot folder: it has no config.json (with model.safetensors beside it)"
        )
    where = str(folder) if is_path else name
    with _quiet():
        try:
            # What lies in the cache first: no waiting for a network, and the same weights as last time.
            model = _load(where, local=True)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as first:
            if is_path:
                raise BackboneError(f"cannot load the backbone in {folder}: {_line(first)}") from first
            try:
                # One question first: the hub's client itself asks six times over half a minute when nobody answers.
                huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=10)
                model = _load(where, local=False)
            except Exception as error:
                # The hub's client raises its transport's errors too, of a library that may change.
                raise BackboneError(
                    f"cannot get the backbone {name!r}: {_line(error)}; it needs a network or the Hugging Face "
                    "cache, or name a local snapshot folder (config.json, model.safetensors) by --backbone"
                ) from error
    if not stages_of(model):
        raise BackboneError(
            f"the backbone {name!r} has no stages that end in a feature map: take a ResNet or ConvNeXt"
        )
    return model


def _load(where: str, *, local: bool) -> nn.Module:
    # float32 in memory whatever is on disk; safetensors alone, since other weight files are pickles.
    model: nn.Module = _AUTO.from_pretrained(
        where, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=local
    )
    return model


def _run(part: nn.Module, x: Tensor) -> Tensor:
    return _tensor(part(x))


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim not in {2, 4}:
        raise BackboneError("the backbone does not give a feature map: take a ResNet or ConvNeXt")
    return value


def _num_channels(backbone: Any) -> int:
    sizes: Sequence[int] = backbone.config.hidden_sizes
    return int(sizes[-1])


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200].rstrip(".") or type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The library reports unused classifier weights and draws bars; neither is news to who counts bins.
    logs = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [log.level for log in logs]
    bars = _LOGGING.is_progress_bar_enabled()
    for log in logs:
        log.setLevel(logging.ERROR)
    _LOGGING.disable_progress_bar()
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
        if bars:
            _LOGGING.enable_progress_bar()
