"""What to change so that a training runs faster: levers that the measured shares of a step's time justify."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bintally.learn.kept import beyond_mirroring, views_of
from bintally.learn.recipe import Recipe

# Training steps of a ResNet50 on two cores: 7.1 photos/s; 10.0 channels-last; 12.6 bf16; 17.1 both.
_CHANNELS_LAST_GAIN = 1.4
_BF16_GAIN = 1.75
_WORTH = 1.05
_WAITS = 0.1
_COMPUTES = 0.3
_SMALL_BATCH = 16
_BUSY_GPU = 70.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the choice of levers looks at.

    Attributes:
        shares: phase → share of a step's time, 0 to 1.
        cores: of this machine.
        threads: of torch.
        workers: threads that read photos.
        in_memory: whether the photos come from memory after the first epoch.
        cache_mb: what all photos would take, decoded.
        free_mb: memory that is free.
        precision: what "auto" stood for.
        native_bf16: whether the device computes in bfloat16 itself.
        kept: whether activations are kept.
        num_frozen: frozen parts of the network.
        frozen_share: of a forward pass, what the frozen parts are about.
        gpu_p95: 95th percentile of the GPUs' utilisation; None where there is none.
    """

    shares: Mapping[str, float]
    cores: int
    threads: int
    workers: int
    in_memory: bool
    cache_mb: int
    free_mb: int
    precision: str
    native_bf16: bool
    kept: bool
    num_frozen: int
    frozen_share: float
    gpu_p95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One thing to change.

    Attributes:
        name: such as "channels_last".
        settings: table → key → value, as a recipe holds them.
        why: the figures that speak for it.
        expected: how many times as many photos a second it should give, by the shares; 1 is no gain.
        changes_training: what it changes about what is learnt; empty when nothing.
    """

    name: str
    settings: Mapping[str, Mapping[str, Any]]
    why: str
    expected: float
    changes_training: str = ""

    @property
    def flags(self) -> list[str]:
        """The same as words for `bintally train`."""
        words = []
        for table, keys in self.settings.items():
            for key, value in keys.items():
                text = str(value).lower() if isinstance(value, bool) else str(value)
                words.append(f"--set {table}.{key}={text}")
        return words

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with this changed."""
        tables = {table: dataclasses.replace(getattr(recipe, table), **keys) for table, keys in self.settings.items()}
        return dataclasses.replace(recipe, **tables)


def choose(recipe: Recipe, measured: Measured) -> list[Lever]:
    """The levers that the figures justify, the greatest gain to expect first.

    Args:
        recipe: what was profiled.
        measured: what was found.

    Returns:
        Levers with an expected gain of 1.05 or more; none when nothing on the list would help.
    """
    found = [*_for_data(recipe, measured), *_for_compute(recipe, measured)]
    worth = [lever for lever in found if lever.expected >= _WORTH]
    return sorted(worth, key=lambda lever: -lever.expected)


def _for_data(recipe: Recipe, measured: Measured) -> Iterator[Lever]:
    waiting = measured.shares.get("waiting", 0.0)
    if waiting < _WAITS:
        return
    says = f"{waiting:.0%} of a step is waiting for data"
    if not measured.kept:
        num = min(2 * measured.workers, max(4 * measured.cores, 8))
        if num > measured.workers:
            yield Lever(
                name="workers",
                settings={"train": {"workers": num}},
                why=f"{says}, from {measured.workers} loader threads on {measured.cores} cores",
                expected=_gain(waiting, num / measured.workers),
            )
    if not measured.kept and not measured.in_memory and measured.cache_mb < measured.free_mb / 2:
        yield Lever(
            name="cache",
            settings={"train": {"cache_mb": measured.cache_mb + 1}},
            why=f"{says}; all photos take {measured.cache_mb:,} MB decoded, and {measured.free_mb:,} MB are free",
            expected=_gain(waiting, 10.0),
        )


def _for_compute(recipe: Recipe, measured: Measured) -> Iterator[Lever]:
    settings, shares = recipe.train, measured.shares
    forward, backward = shares.get("forward", 0.0), shares.get("backward", 0.0)
    compute, rest = forward + backward, shares.get("optimizer", 0.0) + shares.get("to_device", 0.0)
    says = f"forward and backward are {compute:.0%} of a step"
    one_size = not (settings.start_size or settings.sizes)  # as what is kept has
    if measured.num_frozen and not measured.kept and one_size:
        others = beyond_mirroring(recipe.augment)
        saved = forward * measured.frozen_share + shares.get("waiting", 0.0)
        views = len(views_of(recipe.augment))
        yield Lever(
            name="keep_activations",
            settings={"train": {"keep_activations": "on"}},
            why=(
                f"{measured.num_frozen} parts are frozen, and the forward pass is {forward:.0%} of a step; they are "
                f"computed once instead, for {views} view{'s' if views > 1 else ''} of each photo"
            ),
            expected=1 / max(1 - saved, 0.02),
            changes_training=f"photos are mirrored at most: no {', '.join(others)}" if others else "",
        )
    if compute >= _COMPUTES:
        if measured.precision == "32-true" and measured.native_bf16:
            yield Lever(
                name="precision bf16",
                settings={"train": {"precision": "bf16-mixed"}},
                why=f"{says}, in float32, on a device that computes in bfloat16",
                expected=_gain(compute, _BF16_GAIN),
                changes_training="numbers are rounded more coarsely; scores rarely change",
            )
        if not settings.channels_last:
            yield Lever(
                name="channels_last",
                settings={"train": {"channels_last": True}},
                why=f"{says}, with photos in the order that convolutions like less",
                expected=_gain(compute, _CHANNELS_LAST_GAIN),
            )
        if measured.gpu_p95 is None and measured.threads < measured.cores:
            yield Lever(
                name="threads",
                settings={"train": {"threads": measured.cores}},
                why=f"{says}, by {measured.threads} of {measured.cores} cores",
                expected=_gain(compute, measured.cores / measured.threads),
            )
    small = settings.batch_size < _SMALL_BATCH and measured.gpu_p95 is None
    idle = measured.gpu_p95 is not None and measured.gpu_p95 < _BUSY_GPU
    if small or idle or rest > _WAITS:
        why = f"{rest:.0%} of a step is the same for any batch; it has {settings.batch_size} photos"
        if idle:
            why += f", and the GPU is at {measured.gpu_p95:.0f} %"
        yield Lever(
            name="batch size",
            settings={"train": {"batch_size": 2 * settings.batch_size}},
            why=why,
            # What a small batch leaves of the processor is not known beforehand: a tenth is a cautious guess.
            expected=_gain(min(rest + (0.2 if small else 0.0) + (0.5 if idle else 0.0), 1.0), 2.0),
            changes_training="half as many steps an epoch: set the learning rates again",
        )


def _gain(share: float, times: float) -> float:
    """How many times faster all is when `share` of it is `times` faster (Amdahl)."""
    return 1 / (1 - share + share / times)
