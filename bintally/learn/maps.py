"""What a counter looks at: activation maps of photos, and whether taking away what they mark changes the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bintally.learn.slices import ends
from bintally.progress import Progress
from bintally.resampling import bootstrap_means
from bintally.scores import Predictions

Squares = NDArray[np.uint8]
Heat = NDArray[np.float32]

MapsOf = Callable[[Squares], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Squares (n, size, size, 3) to logits (n, K) before any temperature and class activation maps (n, K, h, w)."""

MASKS = ("hottest", "coldest", "elsewhere")
"""What is taken away: the hottest share of the map, the coldest, and the hottest one's shape laid somewhere else."""

RING = 8
"""The rim of a photo is an eighth of it on each side: hems, label, walls."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mapped:
    """Photos with their maps, and the answers before and after parts of them were taken away.

    Attributes:
        said: the answers to the whole photos.
        evidence: (n, h, w): what each place says for the likeliest count, less what it says for all counts on average
            (softmax does not see what all share); below 0 it speaks against.
        without: mask name → the answers to the photos without it.
        on: region name → share of each photo's positive evidence that lies in it, (n,).
        area: region name → share of each photo that it is, (n,).
    """

    said: Predictions
    evidence: Heat
    without: Mapping[str, Predictions]
    on: Mapping[str, NDArray[np.float64]]
    area: Mapping[str, NDArray[np.float64]]


def map_photos(
    maps_of: MapsOf,
    squares: Squares,
    predictions: Callable[[NDArray[np.float32], NDArray[np.int64]], Predictions],
    labels: NDArray[np.int64],
    regions: Mapping[str, NDArray[np.bool_]],
    *,
    share: float,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> Mapped:
    """Maps photos and takes parts of them away: the deletion test (Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421).

    What is taken away is blurred beyond recognition rather than painted over, so that no new object appears.

    Args:
        maps_of: the counter.
        squares: (n, size, size, 3), at least one.
        predictions: logits and true counts to predictions, by the counter's range and temperature.
        labels: (n,) true counts.
        regions: name → bool (n, size, size): where to ask how much of the evidence lies. The rim is always asked.
        share: of each photo, how much is taken away.
        batch_size: squares at a time.
        seed: of the places that "elsewhere" is at.
        progress: told of every batch.
    """
    logits: list[NDArray[np.float32]] = []
    maps: list[Heat] = []
    changed: dict[str, list[NDArray[np.float32]]] = {name: [] for name in MASKS}
    on: dict[str, list[float]] = {name: [] for name in ("rim", *regions)}
    area: dict[str, list[float]] = {name: [] for name in ("rim", *regions)}
    luck = np.random.default_rng(seed)
    rim = rim_of(squares.shape[1])
    progress.begin("maps", len(squares))
    try:
        for start in range(0, len(squares), batch_size):
            batch = squares[start : start + batch_size]
            found, activations = maps_of(batch)
            evidence = evidence_of(found, activations)
            logits.append(found)
            maps.append(evidence)
            large = np.stack([stretch(one, squares.shape[1]) for one in evidence])
            each = [masks_of(heat, share, luck) for heat in large]
            masks = {name: np.stack([one[name] for one in each]) for name in MASKS}
            soft = np.stack([blurred(one) for one in batch])
            for name in MASKS:
                changed[name].append(maps_of(np.where(masks[name][..., None], soft, batch))[0])
            for name, places in (("rim", np.broadcast_to(rim, large.shape)), *_at(regions, start, batch_size)):
                warm = np.maximum(large, 0.0)
                total = warm.sum(axis=(1, 2))
                held = (warm * places).sum(axis=(1, 2)) / np.where(total > 0, total, 1.0)
                on[name] += held.tolist()
                area[name] += places.mean(axis=(1, 2)).tolist()
            progress.advance(len(batch))
    finally:
        progress.end()
    return Mapped(
        said=predictions(np.concatenate(logits), labels),
        evidence=np.concatenate(maps),
        without={name: predictions(np.concatenate(one), labels) for name, one in changed.items()},
        on={name: np.array(one) for name, one in on.items()},
        area={name: np.array(one) for name, one in area.items()},
    )


def evidence_of(logits: NDArray[np.float32], maps: Heat) -> Heat:
    """(n, h, w): the map of each photo's likeliest count less the mean map of all counts."""
    likeliest = logits.argmax(axis=1)
    evidence: Heat = maps[np.arange(len(maps)), likeliest] - maps.mean(axis=1)
    return evidence


def stretch(evidence: Heat, size: int) -> Heat:
    """A map (h, w) over a square of `size` pixels, bicubic as the served heat maps are."""
    image = Image.fromarray(evidence.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def masks_of(heat: Heat, share: float, luck: np.random.Generator) -> dict[str, NDArray[np.bool_]]:
    """The parts of a photo to take away, each `share` of it: see `MASKS`. `heat` is (size, size)."""
    size = heat.shape[0]
    number = max(1, round(share * heat.size))
    ranked = np.argsort(heat.ravel(), kind="stable")
    flat_hottest, flat_coldest = (np.zeros(heat.size, dtype=np.bool_) for _ in range(2))
    flat_hottest[ranked[-number:]] = True
    flat_coldest[ranked[:number]] = True
    hottest = flat_hottest.reshape(heat.shape)
    step = tuple(luck.integers(size // 4, size - size // 4, 2).tolist())
    return {
        "hottest": hottest,
        "coldest": flat_coldest.reshape(heat.shape),
        "elsewhere": np.roll(hottest, step, axis=(0, 1)),
    }


def blurred(square: Squares) -> Squares:
    """A square (size, size, 3) in which nothing can be told from anything: the light is left, the things are gone."""
    image = Image.fromarray(square).filter(ImageFilter.GaussianBlur(square.shape[0] / 8))
    return np.asarray(image, dtype=np.uint8)


def rim_of(size: int) -> NDArray[np.bool_]:
    """(size, size): the outer eighth on each side."""
    rim = np.ones((size, size), dtype=np.bool_)
    edge = size // RING
    rim[edge : size - edge, edge : size - edge] = False
    return rim


def deletion(mapped: Mapped, groups: Sequence[str], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """How much the answers change when a part is taken away, over all, right and wrong answers.

    Returns:
        JSON-ready rows: `of` ("all", "right", "wrong"), `photos`, and for each mask `drop` (of the likeliest count's
        probability), `shift` (of the expected count, with its sign), `moved` (its size) and `changed` (share of the
        answers); `hottest_less_coldest` and `hottest_less_elsewhere` are differences of `drop`, paired.
    """
    said, rows = mapped.said, []
    places, before = np.arange(len(said)), said.confidence
    names = np.asarray(groups, dtype=np.str_)
    for of, mask in (("all", np.ones(len(said), dtype=np.bool_)), ("right", said.correct), ("wrong", ~said.correct)):
        if not mask.any():
            continue
        values: dict[str, NDArray[np.float64]] = {}
        for name, after in mapped.without.items():
            shift = after.expected - said.expected
            values[f"{name} drop"] = before - after.probabilities[places, said.likeliest]
            values[f"{name} shift"], values[f"{name} moved"] = shift, np.abs(shift)
            values[f"{name} changed"] = (after.likeliest != said.likeliest).astype(np.float64)
        for other in ("coldest", "elsewhere"):
            values[f"hottest_less_{other} drop"] = values["hottest drop"] - values[f"{other} drop"]
        inside = names[mask].tolist()
        known = len(set(inside)) > 1
        found = bootstrap_means(
            {key: one[mask] for key, one in values.items()}, inside, resamples=resamples, seed=seed
        )
        row: dict[str, Any] = {"of": of, "photos": int(mask.sum())}
        for key, one in found.items():
            name, figure = key.rsplit(" ", 1)
            row.setdefault(name, {})[figure] = ends(one, known=known)
        rows.append(row)
    return rows


def regions_held(mapped: Mapped, groups: Sequence[str], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Region by region: the share of the positive evidence in it beside its share of the photo, and the difference."""
    rows = []
    for name in mapped.on:
        values = {
            "evidence": mapped.on[name],
            "area": mapped.area[name],
            "more": mapped.on[name] - mapped.area[name],
        }
        found = bootstrap_means(values, groups, resamples=resamples, seed=seed)
        rows.append({"name": name} | {key: ends(one, known=len(set(groups)) > 1) for key, one in found.items()})
    return rows


def _at(regions: Mapping[str, NDArray[np.bool_]], start: int, size: int) -> list[tuple[str, NDArray[np.bool_]]]:
    return [(name, places[start : start + size]) for name, places in regions.items()]
