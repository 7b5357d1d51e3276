"""How a counter counts: what it looks at, where it fails, which labels look wrong, what nobody can count; written down.

Reads what `bintally evaluate` kept; only the maps need the network. Writes RUN/examination/examination.json.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bintally import files, pixels, scores
from bintally.card import ModelCard
from bintally.data.manifest import PARTS, Manifest, Part, Row
from bintally.errors import RunError, UnreadablePhotoError
from bintally.learn import by_eye, limits, maps, slices, suspects
from bintally.learn.evaluate import EVALUATION_FILE, PREDICTIONS_FILE, evaluation_folder
from bintally.learn.predictions import Kept, joined, read_predictions
from bintally.learn.published import PUBLISHED
from bintally.progress import Progress
from bintally.resampling import bootstrap
from bintally.scores import Predictions

EXAMINATION_FOLDER = "examination"
EXAMINATION_FILE = "examination.json"
FORM_FILE = "by-eye.csv"
FORMAT = 1

Regions = Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
"""A photo (height, width, 3) to where in it something is, bool of any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamineSettings:
    """How a counter is examined.

    Attributes:
        part: which part's photos; it must have been evaluated.
        photos: how many of them, by chance, are mapped.
        shown: how many right and how many wrong answers are shown with their maps.
        share: of a photo, how much the deletion test takes away.
        suspects: how many labels are shown that look wrong.
        planted: share of labels that are made wrong on purpose, to see what of that is found.
        eyes: how many photos, and how many pairs of photos, a person may judge.
        resamples: draws of groups for the intervals.
        seed: of every choice.
        batch_size: photos that go through the network at once.
        device: "auto", "cpu" or "cuda".
    """

    part: Literal["train", "validation", "calibration", "test"] = "test"
    photos: Annotated[int, Field(ge=1, le=100_000)] = 200
    shown: Annotated[int, Field(ge=0, le=200)] = 18
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    suspects: Annotated[int, Field(ge=0, le=500)] = 24
    planted: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    eyes: Annotated[int, Field(ge=1, le=1000)] = 48
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(gt=0)] = 16
    device: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What is known of the photos beyond the manifest.

    Attributes:
        cuts: ways to cut rows into slices.
        look_alikes: ids of each set of nearly identical photos of the counter's range.
        changes: pairs of ids of one bin before and after one unit's change (fewer first), with the product's name.
        regions: name → where a photo shows it.
    """

    cuts: Callable[[Sequence[Row]], Sequence[slices.Cut]]
    look_alikes: Sequence[Sequence[str]] = ()
    changes: Sequence[tuple[str, str, str]] = ()
    regions: Mapping[str, Regions] = field(default_factory=dict)


def examine(
    folder: Path,
    to: Path,
    card: ModelCard,
    manifest: Manifest,
    maps_of: maps.MapsOf,
    beside: Beside,
    settings: ExamineSettings,
    progress: Progress,
    *,
    answers: by_eye.Answers | None = None,
) -> dict[str, Any]:
    """Examines an evaluated run or model, and writes what was found and the form to count by eye.

    Maps that an earlier examination left in `to`, of the same weights, photos and settings, are taken as they are: with a
    person's answers the rest is done anew in seconds.

    Args:
        folder: the run or model, whose evaluation is read.
        to: where examination.json and by-eye.csv are written. A form that is there is left alone.
        card: its card.
        manifest: the split that it was evaluated on.
        maps_of: the counter.
        beside: what the data room knows of the photos.
        settings: how.
        progress: told of the maps.
        answers: a person's, when the form was filled in.

    Returns:
        What is written as examination.json.

    Raises:
        RunError: the part was not evaluated, or its photos are not those of the manifest.
    """
    kept = _kept(folder, card, settings.part)
    rows_by_id = {row.photo.photo_id: row for row in manifest.rows}
    strange = [name for name in kept.photo_ids if name not in rows_by_id]
    if strange:
        raise RunError(
            f"{len(strange)} evaluated photos are not in the manifest, {strange[0]} the first: name the manifest that "
            "was evaluated by --manifest"
        )
    part = kept.of_part(settings.part)
    rows = [rows_by_id[name] for name in part.photo_ids]
    said = _said(part, card)
    ends = {"resamples": settings.resamples, "seed": settings.seed}
    figures = bootstrap(said, part.groups, **ends)
    shares = scores.class_shares(part.labels, card.counts.highest + 1)
    shares[: card.counts.lowest] = 0.0
    cut = [
        {
            "name": one.name,
            "about": one.about,
            "rows": slices.by_slice(said, part.groups, one.of, one.order, **ends),
        }
        for one in beside.cuts(rows)
    ]
    eyes = _chance(part.photo_ids, f"eyes {settings.seed}")[: settings.eyes]
    result: dict[str, Any] = {
        "format": FORMAT,
        "folder": str(folder),
        "model": _about(card),
        "manifest": {"root": str(manifest.root), "digest": manifest.digest},
        "part": settings.part,
        "settings": asdict(settings),
        "photos": {"examined": len(part.photo_ids), "groups": len(set(part.groups))},
        "figures": {name: slices.ends(one) for name, one in figures.items()},
        "slices": cut,
        "maps": _earlier(to, card, manifest, settings)
        or _maps(part, rows, card, manifest, maps_of, beside.regions, settings, progress),
        "labels": _labels(kept, rows_by_id, card, settings),
        "limits": _limits(part, said, card, shares, rows_by_id, beside, answers),
        "by_eye": {
            "photos": [_photo(rows_by_id[part.photo_ids[place]]) for place in eyes],
            "pairs": [
                {"fewer": _photo(rows_by_id[fewer]), "more": _photo(rows_by_id[more]), "what": what}
                for fewer, more, what in beside.changes
            ],
        },
    }
    if not (to / FORM_FILE).exists():
        form = by_eye.form(
            [part.photo_ids[place] for place in eyes], [(fewer, more) for fewer, more, _ in beside.changes]
        )
        files.write_text(to / FORM_FILE, form)
    files.write_json(to / EXAMINATION_FILE, result)
    return result


def _kept(folder: Path, card: ModelCard, part: Part) -> Kept:
    """The predictions of the part's evaluation, and of other evaluations of the same weights; a photo once."""
    found: list[Kept] = []
    for one in (part, *(other for other in PARTS if other != part)):
        place = evaluation_folder(folder, one)
        if one != part and not (place / EVALUATION_FILE).is_file():
            continue
        evaluated = _evaluated(place)
        if evaluated == card.model_id:
            found.append(read_predictions(place / PREDICTIONS_FILE))
        elif one == part:
            raise RunError(f"{place} is of other weights ({evaluated}): run `bintally evaluate {folder}` again")
    if part not in found[0].parts:
        raise RunError(f"{evaluation_folder(folder, part)} has no photos of the {part} part: evaluate it again")
    return joined(found)


def _evaluated(place: Path) -> str:
    """The id of the model whose evaluation lies there."""
    try:
        return str(json.loads((place / EVALUATION_FILE).read_bytes())["model"]["id"])
    except FileNotFoundError as error:
        raise RunError(f"there is no {place / EVALUATION_FILE}: run `bintally evaluate` first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{place / EVALUATION_FILE} is damaged: run `bintally evaluate` again") from error


def _said(kept: Kept, card: ModelCard) -> Predictions:
    mean = max(card.open_mean or 0.0, float(card.counts.highest)) if card.counts.open_ended else None
    return Predictions(probabilities=kept.probabilities, true_counts=kept.labels, open_mean=mean)


def _about(card: ModelCard) -> dict[str, Any]:
    counts = card.counts
    return {
        "id": card.model_id,
        "architecture": card.architecture,
        "counts": str(counts),
        "names": [counts.name(count) for count in range(counts.highest + 1)],
        "lowest": counts.lowest,
        "size": card.pixels.size,
        "fit": card.pixels.fit,
        "licence": card.licence,
    }


def _chance(names: Sequence[str], salt: str) -> list[int]:
    """Places in an order made by hashing names: by chance, and the same for every counter on these photos."""
    return sorted(range(len(names)), key=lambda place: hashlib.sha256(f"{salt} {names[place]}".encode()).digest())


def _photo(row: Row) -> dict[str, Any]:
    items = () if row.record is None else row.record.items
    return {
        "photo_id": row.photo.photo_id,
        "uri": row.photo.uri,
        "label": row.label,
        "blur": row.blur,
        "items": [{"name": item.name or item.sku, "quantity": item.quantity} for item in items],
    }


_MAPPED_BY = ("part", "photos", "shown", "share", "resamples", "seed")
"""The settings that maps depend on."""


def _earlier(to: Path, card: ModelCard, manifest: Manifest, settings: ExamineSettings) -> dict[str, Any] | None:
    """The maps of an earlier examination, if there is one that would come out the same."""
    try:
        before = json.loads((to / EXAMINATION_FILE).read_bytes())
        same = (
            before["format"] == FORMAT
            and before["model"] == _about(card)
            and before["manifest"] == {"root": str(manifest.root), "digest": manifest.digest}
            and all(before["settings"][name] == getattr(settings, name) for name in _MAPPED_BY)
        )
        found: dict[str, Any] = before["maps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or a damaged one: it is written anew
    return found if same else None


def _maps(
    part: Kept,
    rows: Sequence[Row],
    card: ModelCard,
    manifest: Manifest,
    maps_of: maps.MapsOf,
    regions: Mapping[str, Regions],
    settings: ExamineSettings,
    progress: Progress,
) -> dict[str, Any]:
    squares: list[NDArray[np.uint8]] = []
    where: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in regions}
    places: list[int] = []
    for place in _chance(part.photo_ids, f"maps {settings.seed}")[: settings.photos]:
        try:
            square = pixels.read_square(manifest.path_of(rows[place]).read_bytes(), card.pixels)
        except (OSError, UnreadablePhotoError):
            continue  # moved or damaged since it was evaluated; how many are left is told
        places.append(place)
        squares.append(square)
        for name, find in regions.items():
            where[name].append(_resized(find(square), card.pixels.size))
    if not squares:
        raise RunError(f"no photo of the {settings.part} part can be read from {manifest.root}: were they moved?")
    temperature = card.calibration.temperature if card.calibration else 1.0

    def predictions(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Predictions:
        return scores.predictions_of(logits, labels, card.counts, temperature=temperature, open_mean=card.open_mean)

    mapped = maps.map_photos(
        maps_of,
        np.stack(squares),
        predictions,
        part.labels[places],
        {name: np.stack(found) for name, found in where.items()},
        share=settings.share,
        batch_size=settings.batch_size,
        seed=settings.seed,
        progress=progress,
    )
    groups = [part.groups[place] for place in places]
    ends = {"resamples": settings.resamples, "seed": settings.seed}
    right = np.flatnonzero(mapped.said.correct)[: settings.shown].tolist()
    wrong = np.flatnonzero(~mapped.said.correct)[: settings.shown].tolist()
    # The same photos went through the network for the evaluation; another runtime may round otherwise.
    before = part.probabilities[places].argmax(axis=1)
    return {
        "photos": len(places),
        "agree": float((before == mapped.said.likeliest).mean()),
        "deletion": maps.deletion(mapped, groups, **ends),
        "regions": maps.regions_held(mapped, groups, **ends),
        "mean": {
            name: _mean_map(mapped.evidence[mask])
            for name, mask in (("right", mapped.said.correct), ("wrong", ~mapped.said.correct))
            if mask.any()
        },
        **{
            name: [
                {
                    **_photo(rows[places[k]]),
                    **_answer(mapped.said, k),
                    "evidence": np.round(mapped.evidence[k].astype(np.float64), 4).tolist(),
                    "without": {
                        mask: {"expected": float(after.expected[k]), "likeliest": int(after.likeliest[k])}
                        for mask, after in mapped.without.items()
                    },
                }
                for k in chosen
            ]
            for name, chosen in (("right", right), ("wrong", wrong))
        },
    }


def _mean_map(evidence: NDArray[np.float32]) -> list[list[float]]:
    """The mean of what speaks for the answers, each photo's hottest place 1."""
    warm = np.maximum(evidence, 0.0).astype(np.float64)
    peaks = warm.max(axis=(1, 2), keepdims=True)
    mean: list[list[float]] = np.round((warm / np.where(peaks > 0, peaks, 1.0)).mean(axis=0), 4).tolist()
    return mean


def _resized(places: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    rows, columns = (np.arange(size) * side // size for side in places.shape)
    return places[np.ix_(rows, columns)]


def _answer(said: Predictions, place: int) -> dict[str, Any]:
    return {
        "likeliest": int(said.likeliest[place]),
        "expected": float(said.expected[place]),
        "probability": float(said.confidence[place]),
        "probability_of_label": float(said.probabilities[place, said.classes[place]]),
        "probabilities": [round(float(one), 4) for one in said.probabilities[place]],
    }


def _labels(kept: Kept, rows_by_id: Mapping[str, Row], card: ModelCard, settings: ExamineSettings) -> dict[str, Any]:
    """Over all evaluated photos that the network was not trained on: the more, the better the joint is known."""
    unseen = kept if settings.part == "train" else kept.where(np.array([one != "train" for one in kept.parts]))
    said = _said(unseen, card)
    ends = {"resamples": settings.resamples, "seed": settings.seed}
    return {
        "photos": len(said),
        "parts": [one for one in PARTS if one in unseen.parts],
        "joint": suspects.joint(said),
        "planted": suspects.planted(said, share=settings.planted, seed=settings.seed),
        "surprises": suspects.surprises(said, unseen.groups, **ends),
        "suspects": [
            {**_photo(rows_by_id[unseen.photo_ids[k]]), **_answer(said, k), "part": unseen.parts[k]}
            for k in suspects.ranked(said)[: settings.suspects].tolist()
        ],
    }


def _limits(
    part: Kept,
    said: Predictions,
    card: ModelCard,
    shares: NDArray[np.float64],
    rows_by_id: Mapping[str, Row],
    beside: Beside,
    answers: by_eye.Answers | None,
) -> dict[str, Any]:
    within = [row for row in rows_by_id.values() if row.part is not None and row.label is not None]
    sets = [[rows_by_id[name].label or 0 for name in one] for one in beside.look_alikes]
    accuracy = float(said.correct.mean())
    hidden = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
    return {
        "look_alikes": limits.of_look_alikes(sets, len(within)),
        "hidden": [{"hidden": one, "accuracy": limits.of_hidden(shares, one)} for one in hidden],
        "as_if_hidden": limits.hidden_of(shares, accuracy),
        "published": [
            {"who": one.who, "counts": one.counts, "accuracy": max(one.accuracy), "split": one.split}
            for one in PUBLISHED
            if one.counts == str(card.counts)
        ],
        "by_eye": None if answers is None else by_eye.judged(answers, part.photo_ids, said, shares),
    }
