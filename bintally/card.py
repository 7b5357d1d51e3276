"""The card beside every trained or exported model: what it is, what it was made from, and how far it was right."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from bintally import __version__, files
from bintally.counts import CountRange
from bintally.errors import ModelError
from bintally.pixels import PixelSpec

CARD_FILE = "model.json"

PHOTO_LICENCE = (
    "The photos and metadata of the Amazon Bin Image Dataset are Amazon's, licensed CC BY-NC-SA 3.0 US "
    "(non-commercial use); a model trained on them comes from non-commercial material."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How probabilities are made honest: logits are divided by `temperature` before the softmax.

    Attributes:
        temperature: fitted on the calibration part alone; 1 leaves logits as they are.
        num_photos: how many photos it was fitted on.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    num_photos: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Everything that who loads a model must know, and can check.

    Attributes:
        kind: "trained" (a run of `bintally train`) or "exported".
        architecture: the backbone's name or hub id, with the head.
        head: the last layer's kind, as `model.head` of a recipe: whoever builds the network again asks for it.
        mirror: whether the answer is the mean over the photo and its mirror image. An exported model does that itself.
        scales: sides in pixels over which the answer is the mean; none looks at the input as it is. As `mirror` otherwise.
        pixels: the input's size and statistics.
        counts: the counts covered.
        open_mean: mean training label in the open last class, or None when the last class is exact.
        manifest_digest: digest of the manifest that it was trained on.
        manifest: a line on that manifest: how many photos of which split.
        precision: numeric precision of the weights as run: "float32", "bfloat16" or "int8".
        calibration: temperature for the logits; None until one was fitted.
        metrics: named figures with where they were taken, such as {"validation": {"accuracy": 0.38}}; under `BEFORE_REFIT`
            those that the validation part gave before it was learnt from as well.
        files: name → SHA-256 of every file of the model folder but the card.
        code_version: the bintally that wrote it.
        licence: what the training photos' licence says.
        notes: breaches that were accepted, and other remarks.
    """

    kind: Literal["trained", "exported"] = "trained"
    architecture: str
    head: Literal["linear", "corn", "coral"] = "linear"
    mirror: bool = False
    scales: tuple[int, ...] = ()
    pixels: PixelSpec
    counts: CountRange
    open_mean: float | None = None
    manifest_digest: str = ""
    manifest: str = ""
    precision: str = "float32"
    calibration: Calibration | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    code_version: str = __version__
    licence: str = PHOTO_LICENCE
    notes: tuple[str, ...] = ()

    @property
    def model_id(self) -> str:
        """Short and stable: 12 digits of the weights' hash; what answers otherwise has another id."""
        weights = [self.files[name] for name in sorted(self.files) if Path(name).suffix in _WEIGHTS]
        if len(weights) > 1:  # an exported model's formats: int8 and float32 have their ONNX file in common
            weights = [hashlib.sha256(" ".join((self.precision, *weights)).encode()).hexdigest()]
        elif weights and (self.mirror or self.scales):  # the same weights, other answers
            views = (*(["mirror"] if self.mirror else []), *(str(side) for side in self.scales))
            weights = [hashlib.sha256(" ".join((*views, *weights)).encode()).hexdigest()]
        return weights[0][:12] if weights else "unsaved"

    @property
    def is_refit(self) -> bool:
        """Whether the training learnt from the validation part as well, once that had chosen the epoch."""
        return BEFORE_REFIT in self.metrics

    @property
    def validation(self) -> dict[str, float]:
        """Figures on the validation part, after a refit those of the training before it; empty when there are none."""
        found: dict[str, float] = self.metrics.get(BEFORE_REFIT if self.is_refit else "validation", {})
        return found


BEFORE_REFIT = "before_refit"
"""The name on a card for figures on the validation part from before it was learnt from as well."""

_WEIGHTS = {".safetensors", ".onnx", ".bin"}

_ADAPTER: TypeAdapter[ModelCard] = TypeAdapter(ModelCard, config=None)


def write_card(folder: Path, card: ModelCard) -> None:
    """Writes the card into a model folder, under `CARD_FILE`."""
    files.write_json(folder / CARD_FILE, _ADAPTER.dump_python(card, mode="json"))


def read_card(folder: Path, *, check_files: bool = True) -> ModelCard:
    """Reads a model folder's card and, by default, checks every file against the hash on it.

    Raises:
        ModelError: there is no card, it is damaged, or a file is missing or differs from its hash.
    """
    path = folder / CARD_FILE
    try:
        card = _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is no model folder: it has no {CARD_FILE}") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        raise ModelError(f"{path} is no model card: {where}: {problem['msg']}") from error
    if check_files:
        for name, digest in card.files.items():
            if Path(name).name != name:
                raise ModelError(f"{path} names a file outside its folder: {name!r}")
            if not (folder / name).is_file():
                raise ModelError(f"{folder} lacks {name}, which its card names: export or copy the model again")
            if files.sha256_of(folder / name) != digest:
                raise ModelError(f"{folder / name} differs from its card: export or copy the model again")
    return card
