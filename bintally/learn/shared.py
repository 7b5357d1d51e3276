"""What the trainings of one process on the same photos share: decoded photos, frozen backbones, kept activations."""

from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bintally.errors import SettingsError
from bintally.learn.device import make_fabric
from bintally.learn.frozen import Kept
from bintally.learn.kept import Part, keep_parts, views_of
from bintally.learn.loader import Photos
from bintally.learn.material import TrainingData
from bintally.learn.model import CountModel, build_model
from bintally.learn.recipe import Recipe
from bintally.learn.squares import Squares
from bintally.pixels import PixelSpec
from bintally.progress import Progress


class Shared:
    """Made once for a training, or once for all trials of a tuning.

    Args:
        data: the photos.
        several: whether more than one training is to come: then keeping activations always pays.
        photos: what reads photos; a profiler's keeps time.
    """

    def __init__(self, data: TrainingData, *, several: bool = False, photos: type[Photos] = Photos) -> None:
        self.data = data
        self._several, self._photos = several, photos
        self._parts: dict[PixelSpec, tuple[Part, Part]] = {}
        self._squares: list[Squares] = []
        self._backbones: dict[str, nn.Module] = {}
        self._kept: dict[object, Kept | None] = {}
        self._fabrics: dict[object, Fabric] = {}

    def parts(self, recipe: Recipe) -> tuple[Part, Part]:
        """Photos to learn from and to validate on, in the recipe's size."""
        if recipe.pixels not in self._parts:
            settings, spec, data = recipe.train, recipe.pixels, self.data
            training = self._photos(data.train_paths, spec, cache_mb=settings.cache_mb, workers=settings.workers)
            left = max(0, settings.cache_mb - (training.num_bytes >> 20))
            validation = self._photos(data.validation_paths, spec, cache_mb=left, workers=settings.workers)
            if recipe.squares.max_gb and not all(one.num_bytes for one in (training, validation) if len(one)):
                self._squares.append(Squares(spec, recipe.squares))
                training.keep_on_disk(self._squares[-1], data.train_sha256s)
                validation.keep_on_disk(self._squares[-1], data.validation_sha256s)
            self._parts[spec] = (
                Part(photos=training, sha256s=data.train_sha256s),
                Part(photos=validation, sha256s=data.validation_sha256s),
            )
        return self._parts[recipe.pixels]

    def fabric(self, recipe: Recipe) -> Fabric:
        """Where and how exactly to compute; the same one for the same settings, as it takes a while to make."""
        key = (recipe.train.device, recipe.train.processes, recipe.train.precision)
        if key not in self._fabrics:
            self._fabrics[key] = make_fabric(recipe.train)
        return self._fabrics[key]

    def model(self, recipe: Recipe) -> CountModel:
        """A new model, from the recipe's seed; with a backbone that is frozen as a whole, that is the same one."""
        settings, seed = recipe.model, recipe.train.seed
        torch.manual_seed(seed)
        if not self._several:
            return build_model(settings, self.data.counts)
        if settings.backbone not in self._backbones:
            model = build_model(settings, self.data.counts)
            if not any(parameter.requires_grad for parameter in model.backbone.parameters()):
                self._backbones[settings.backbone] = model.backbone  # no training will change it
            return model
        if settings.unfrozen_stages:
            return build_model(settings, self.data.counts)
        num_classes = self.data.counts.num_classes
        return CountModel(
            self._backbones[settings.backbone],
            num_classes,
            unfrozen_stages=0,
            dropout=settings.dropout,
            head=settings.head,
            mirror=settings.mirror,
        )

    def kept(
        self,
        recipe: Recipe,
        model: CountModel,
        forward: Callable[[Tensor], Tensor],
        precision: str,
        progress: Progress,
    ) -> Kept | None:
        """The activations of the frozen parts, if they are kept: see `kept.keep_parts`."""
        wish, views = recipe.train.keep_activations, views_of(recipe.augment)
        if recipe.train.start_size or recipe.train.sizes:
            if wish == "on":
                raise SettingsError(
                    "train.keep_activations = on keeps photos of one size, train.start_size and train.sizes show them in "
                    "several: leave one out"
                )
            return None
        if wish == "auto" and not self._several and recipe.train.epochs <= len(views):
            return None  # every view would be computed, and none used twice
        what = (recipe.model.backbone, model.num_frozen, model.mirror, recipe.pixels, precision)
        key = (*what, views, wish, recipe.augment)
        if key not in self._kept:
            training, validation = self.parts(recipe)
            self._kept[key] = keep_parts(
                wish,
                model,
                training,
                validation,
                recipe.augment,
                forward=forward,
                precision=precision,
                settings=recipe.keep,
                progress=progress,
            )
        return self._kept[key]

    def close(self) -> None:
        """Ends threads, lets memory go."""
        for parts in self._parts.values():
            for part in parts:
                part.photos.close()
        for squares in self._squares:
            squares.close()
        self._parts.clear()
        self._squares.clear()
        self._kept.clear()
        self._backbones.clear()
