"""Training over kept activations: whether a recipe allows it, and the batches that take the photos' place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bintally.errors import RunError, SettingsError
from bintally.files import sha256_of
from bintally.learn.augment import AugmentSettings
from bintally.learn.frozen import KeepSettings, Kept, NotKeptError, View, Wanted, keep
from bintally.learn.loader import Batches, Photos
from bintally.learn.model import CountModel
from bintally.progress import Progress

KeepActivations = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part's photos, and the hashes of their files in the same order."""

    photos: Photos
    sha256s: tuple[str, ...]

    def check(self, place: int) -> None:
        """Raises RunError when a file is not what its hash says: others would find its activations under that hash."""
        path = self.photos.paths[place]
        try:
            differs = sha256_of(path) != self.sha256s[place]
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}; fetch it again") from error
        if differs:
            raise RunError(f"{path} has changed since the manifest was made: make the manifest and the split again")


def beyond_mirroring(settings: AugmentSettings) -> list[str]:
    """The recipe's augmentations that change photos in a way that kept activations do not show: all but mirroring."""
    return [one.name for one in fields(settings) if one.name != "flip" and getattr(settings, one.name)]


def keep_parts(
    wish: KeepActivations,
    model: CountModel,
    training: Part,
    validation: Part,
    augmentation: AugmentSettings,
    *,
    forward: Callable[[Tensor], Tensor],
    precision: str,
    settings: KeepSettings,
    progress: Progress,
) -> Kept | None:
    """Keeps the activations of a training's photos, if that is wished and the recipe allows it.

    Args:
        wish: "auto": when something is frozen and nothing but mirroring is asked of the augmentation; "on": when
            something is frozen, leaving other augmentations out; "off": never.
        model: the network.
        training: kept as they are, and mirrored where the recipe flips.
        validation: kept as they are, and mirrored too where the model mirrors.
        augmentation: the recipe's.
        forward: see `frozen.keep`.
        precision: see `frozen.keep`.
        settings: where, and how much.
        progress: is told the size, and why when they are not kept after all.

    Raises:
        SettingsError: "on", and nothing is frozen.
        NotKeptError: "on", and they do not fit.
    """
    if wish == "off":
        return None
    others = beyond_mirroring(augmentation)
    if not model.num_frozen:
        if wish == "on":
            raise SettingsError(
                "train.keep_activations is on, but the recipe freezes nothing: see model.unfrozen_stages"
            )
        return None
    if others and wish == "auto":
        return None
    others = [name for name in others if name != "mixup"]  # activations are mixed as well as photos
    if others:
        progress.message(f"kept activations: photos are mirrored at most; no {', '.join(others)}")
    views = views_of(augmentation)
    # Validation first: after a kill it is there, and it is what every later run needs.
    judged: tuple[View, ...] = ("plain", "mirrored") if model.mirror else ("plain",)
    wanted = [Wanted(sha256=sha, views=judged) for sha in validation.sha256s]
    wanted += [Wanted(sha256=sha, views=views) for sha in training.sha256s]

    def squares(places: Sequence[int]) -> NDArray[np.uint8]:
        first = len(validation.sha256s)
        ours = [(validation, k) if k < first else (training, k - first) for k in places]
        for part, place in ours:
            part.check(place)
        return np.stack([part.photos.square(place) for part, place in ours])

    try:
        return keep(
            model,
            wanted,
            squares,
            training.photos.spec,
            forward=forward,
            precision=precision,
            settings=settings,
            progress=progress,
        )
    except NotKeptError as error:
        if wish == "on":
            raise
        progress.message(f"{error}: the frozen layers are computed in every epoch")
        return None


class KeptBatches(Batches):
    """Training batches of kept activations: the same photos in the same order, mirrored or not as `Batches` would."""

    def __init__(self, kept: Kept, part: Part, classes: NDArray[np.int64], flip: float, **other: object) -> None:
        super().__init__(part.photos, classes, AugmentSettings(flip=flip), **other)  # type: ignore[arg-type]
        self._kept, self._flip = kept, flip
        plain = kept.rows(part.sha256s, "plain") if flip < 1 else None
        mirrored = kept.rows(part.sha256s, "mirrored") if flip > 0 else plain
        first = mirrored if plain is None else plain
        self._rows = np.stack([row for row in (first, mirrored) if row is not None])  # (2, n, 2)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, NDArray[np.int64]]:  # type: ignore[override]
        """Activations (n, C, h, w) of the photos, and their classes (n,)."""
        indices = self.indices(epoch, step)
        luck = _mirror_luck(self._seed, epoch, len(self.classes))[indices]
        rows = self._rows[(luck < self._flip).astype(np.int64), indices]
        return self._kept.take(rows), self.classes[indices]


def input_mean(kept: Kept, part: Part) -> tuple[float, int]:
    """Mean of the normalised values of a part's photos, and of how many it is known: not of those kept long ago."""
    means = [kept.input_means[sha] for sha in part.sha256s if sha in kept.input_means]
    return (float(np.mean(means)), len(means)) if means else (0.0, 0)


class KeptValidation:
    """The validation part's kept activations, taken by place."""

    def __init__(self, kept: Kept, part: Part, *, mirror: bool = False) -> None:
        self._kept = kept
        self._views = [kept.rows(part.sha256s, "plain")]
        if mirror:
            self._views.append(kept.rows(part.sha256s, "mirrored"))

    def batch(self, places: NDArray[np.int64]) -> Tensor:
        """(n, C, h, w) Activations; 2 n where the model mirrors, as its `from_frozen` takes them."""
        return self._kept.take(np.concatenate([rows[places] for rows in self._views]))


def views_of(settings: AugmentSettings) -> tuple[View, ...]:
    """The views that training photos are seen in, when they are mirrored at most."""
    if settings.flip == 0:
        return ("plain",)
    return ("plain", "mirrored") if settings.flip < 1 else ("mirrored",)


@lru_cache(maxsize=256)
def _mirror_luck(seed: int, epoch: int, num: int) -> NDArray[np.float64]:
    # What `augment` draws first for each photo. All trials of a tuning ask for the same again.
    return np.array([np.random.default_rng((seed, epoch, index, 1)).random() for index in range(num)])
