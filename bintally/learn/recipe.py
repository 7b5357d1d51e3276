"""What a training is asked: the tables of a recipe file, those that come with bintally, and how they are read."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bintally import settings
from bintally.errors import SettingsError
from bintally.learn.augment import AugmentSettings
from bintally.learn.auxiliary import AuxiliarySettings
from bintally.learn.frozen import KeepSettings
from bintally.learn.kept import KeepActivations
from bintally.learn.loader import Balance
from bintally.learn.loss import LossName
from bintally.learn.model import ModelSettings, Side
from bintally.learn.squares import SquareSettings
from bintally.learn.teacher import TeacherSettings
from bintally.pixels import PixelSpec

Schedule = Literal["constant", "cosine", "one-cycle"]
Precision = Literal["auto", "32-true", "bf16-mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How to train.

    Attributes:
        epochs: how often every training photo is seen at most.
        batch_size: photos a step, over all processes together.
        optimizer: "adam" (as the course), "adamw", or "sgd" with momentum 0.9.
        head_lr: learning rate of the head.
        backbone_lr: learning rate of the unfrozen stages.
        stage_lr_decay: each stage learns at this share of the rate of the stage above it; 1 gives all the same rate.
        weight_decay: of weights; biases and batch norms have none.
        schedule: "constant", "cosine" (down to 0), or "one-cycle" (up from 1/25, then down to 0).
        warmup: share of all steps over which the rate rises; "one-cycle" takes 0.3 when it is 0.
        loss: what is made small: see `bintally.learn.loss.make_loss`.
        label_smoothing: share of the target spread over all counts.
        loss_width: standard deviation of the targets of "soft-ordinal", in counts.
        loss_mix: share of plain cross-entropy mixed into the losses that know the order of counts.
        class_weights: whether rare counts weigh more in the loss.
        sampling: whether photos of rare counts are drawn more often.
        patience: stop after so many epochs without a better negative log-likelihood on the validation part,
            which is also what the best epoch is chosen by: it rewards honest probabilities. 0 never stops early.
        refit: once the best epoch is known, train again from the start for as many epochs, on the training and validation
            parts together. No figure on the validation part says anything of such a model.
        clip: largest norm of the gradients; 0 leaves them.
        ema: share of the running average of the weights that a step leaves; 0 keeps none. With one, what is validated
            and kept is the average (batch norm's statistics too), and training itself goes on as without. In the
            first steps the average forgets faster: after t of them the share is (1 + t) / (10 + t) at most.
        start_size: side in pixels at which photos are seen in the first epoch; from there it grows evenly, in steps of
            32, to that of [pixels] in the last one (progressive resizing, as in Tan & Le 2021,
            https://arxiv.org/abs/2104.00298). Validation is at full size throughout. 0 trains at full size, too.
        sizes: sides in pixels, one of which is drawn for every batch, larger than [pixels] has it or smaller
            (multi-scale training, as in Redmon & Farhadi 2017, https://arxiv.org/abs/1612.08242); goes with
            model.scales. None trains at one size, or at those of start_size.
        keep_activations: whether what the frozen parts make of each photo is computed once and kept on disk: "auto"
            where that pays and the photos are mirrored at most; "on" leaves other augmentations out; "off" never.
        seed: of weights, order, augmentation and dropout.
        precision: "auto" is bf16-mixed where the processor computes in bfloat16 itself, else 32-true.
        channels_last: memory order of the photos; much faster on most processors.
        device: "auto", "cpu" or "cuda".
        processes: data-parallel processes on each host; all of them share each batch.
        hosts: machines that train together; a training container sets it (see docs/cloud-training.md).
        threads: of torch, a process; 0 leaves torch's own choice.
        workers: threads that read photos; 0 is one a core.
        cache_mb: photos are kept decoded in memory when they need no more than this, else on disk: see [squares].
        checkpoint_every_steps: write a checkpoint every so many steps; 0 goes by time alone.
        checkpoint_every_seconds: and after so many seconds. There is one at the end of every epoch, too.
    """

    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    head_lr: Annotated[float, Field(gt=0)] = 1e-3
    backbone_lr: Annotated[float, Field(gt=0)] = 1e-4
    stage_lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Schedule = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss: LossName = "cross-entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    loss_width: Annotated[float, Field(gt=0)] = 0.5
    loss_mix: Annotated[float, Field(ge=0, le=1)] = 0.0
    class_weights: Balance = "none"
    sampling: Balance = "none"
    patience: Annotated[int, Field(ge=0)] = 0
    refit: bool = False
    clip: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    start_size: Annotated[int, Field(ge=0)] = 0
    sizes: tuple[Side, ...] = ()
    keep_activations: KeepActivations = "auto"
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    precision: Precision = "auto"
    channels_last: bool = True
    device: str = "auto"
    processes: Annotated[int, Field(ge=1)] = 1
    hosts: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=0)] = 0
    workers: Annotated[int, Field(ge=0)] = 0
    cache_mb: Annotated[int, Field(ge=0)] = 2048
    checkpoint_every_steps: Annotated[int, Field(ge=0)] = 0
    checkpoint_every_seconds: Annotated[float, Field(gt=0)] = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that a training is asked: one table of a recipe file each."""

    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    pixels: PixelSpec = field(default_factory=PixelSpec)
    keep: KeepSettings = field(default_factory=KeepSettings)
    squares: SquareSettings = field(default_factory=SquareSettings)
    auxiliary: AuxiliarySettings = field(default_factory=AuxiliarySettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)

    def tables(self) -> dict[str, dict[str, Any]]:
        """Table → key → JSON value."""
        return {one.name: settings.as_dict(getattr(self, one.name)) for one in dataclasses.fields(self)}


def recipe_names() -> list[str]:
    """The recipes that come with bintally."""
    folder = resources.files("bintally") / "recipes"
    names = [one.name for one in folder.iterdir() if one.name.endswith(".toml")]
    return sorted(name.removesuffix(".toml") for name in names if not name.endswith(".space.toml"))


def read_recipe(
    name: str | Path | None,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    others: Mapping[str, type] | None = None,
) -> Recipe:
    """Reads a recipe: defaults < file < BINTALLY_* variables < flags.

    Args:
        name: one of `recipe_names`, or a TOML file; None for the defaults alone.
        flags: table → key → value; None values are not given.
        environ: the process's variables by default.
        others: further tables that the file and the flags may have and that are read elsewhere.

    Raises:
        SettingsError: there is no such recipe, a table, key or value in it is not known, or two do not go together.
    """
    tables, source = _tables(name)
    known: dict[str, type] = {"model": ModelSettings, "train": TrainSettings}
    known |= {"augment": AugmentSettings, "pixels": PixelSpec, "keep": KeepSettings, "squares": SquareSettings}
    known |= {"auxiliary": AuxiliarySettings, "teacher": TeacherSettings}
    settings.check_tables(tables, known | dict(others or {}), source)
    settings.check_tables(flags or {}, known | dict(others or {}), "--set")

    def filled(cls: type[Any], section: str) -> Any:
        given = (flags or {}).get(section)
        return settings.fill(cls, section, file=tables, file_name=source, environ=environ, flags=given)

    recipe = Recipe(**{section: filled(cls, section) for section, cls in known.items()})
    if recipe.train.sizes and recipe.train.start_size:
        raise SettingsError(
            "train.sizes draws the side of every batch, train.start_size has it grow: leave one out, "
            "as in --set train.start_size=0"
        )
    return recipe


def _tables(name: str | Path | None) -> tuple[dict[str, dict[str, Any]], str]:
    if name is None:
        return {}, "no recipe"
    if str(name) in recipe_names():
        with resources.as_file(resources.files("bintally") / "recipes" / f"{name}.toml") as path:
            return settings.read_toml(path), f"recipe {name}"
    path = Path(name)
    if not path.is_file():
        raise SettingsError(
            f"there is no recipe {str(name)!r}: take {', '.join(recipe_names())}, or name a TOML file"
        )
    return settings.read_toml(path), str(path)
