"""A run on photos it never saw: predict, fit the temperature, score, and write down what was found.

Writes RUN/evaluation/evaluation.json and predictions.parquet, and the temperature and headline figures on the run's
card. `evaluate_counter` does the same for anything that turns photos into logits, such as an exported model.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bintally import files, scores
from bintally.calibration import fit_temperature
from bintally.card import Calibration, ModelCard, write_card
from bintally.data.manifest import PARTS, Manifest, Part, read_manifest
from bintally.errors import RunError
from bintally.learn.predictions import LogitsOf, Predicted, predict, write_predictions
from bintally.learn.published import PUBLISHED
from bintally.learn.scorecard import Effort, Scored, scopes
from bintally.progress import Progress

EVALUATION_FOLDER = "evaluation"
EVALUATION_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.parquet"
SPLIT_FILE = "split.parquet"

FORMAT = 1

FEW_PHOTOS = 200
FEW_FOR_TEMPERATURE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """How a run is evaluated.

    Attributes:
        part: which part is scored. The test part is for the end; choices are made on the validation part.
        resamples: draws of groups for the intervals.
        simulations: simulated labels for the calibration error that chance alone makes.
        num_bins: spans of the reliability curve.
        worst: how many of the worst mistakes are kept with their photos.
        right: how many right answers are kept with theirs: the surest of each count in turn.
        sample: how many photos are kept that were picked by chance, right or wrong.
        seed: of resampling and simulation.
        batch_size: photos that go through the network at once.
        device: "auto", "cpu" or "cuda".
    """

    part: Literal["train", "validation", "calibration", "test"] = "test"
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    simulations: Annotated[int, Field(ge=100, le=100_000)] = 1000
    num_bins: Annotated[int, Field(ge=2, le=100)] = 15
    worst: Annotated[int, Field(ge=0, le=500)] = 24
    right: Annotated[int, Field(ge=0, le=500)] = 12
    sample: Annotated[int, Field(ge=0, le=500)] = 12
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(gt=0)] = 32
    device: str = "auto"


def evaluate(run: Path, manifest: Manifest | None, settings: EvaluateSettings, progress: Progress) -> dict[str, Any]:
    """Evaluates a run of `bintally train`.

    Args:
        run: the run's folder.
        manifest: a split manifest to score on; by default the split that the run was trained on.
        settings: how.
        progress: is told how far the prediction is.

    Returns:
        What is written as evaluation.json.

    Raises:
        ModelError: the folder holds no trained model.
        ManifestError: the run's split is missing or damaged.
        RunError: the part has no photo to score.
    """
    from bintally.learn.counter import TrainedCounter  # torch: only here, so that scoring alone does not load it

    counter = TrainedCounter.load(run, batch_size=settings.batch_size, device=settings.device)
    own = read_manifest(run / SPLIT_FILE)
    return evaluate_counter(counter.logits, counter.card, run, own, manifest or own, settings, progress)


def evaluate_counter(
    logits_of: LogitsOf,
    card: ModelCard,
    folder: Path,
    own: Manifest | None,
    manifest: Manifest,
    settings: EvaluateSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluates whatever gives logits, and writes what was found into its folder.

    The temperature is fitted on the calibration part of the split that the model was trained on, whatever is scored:
    no other photos are known to be free of its training. An exported model keeps the temperature on its card.

    Args:
        logits_of: the counter.
        card: its card; a trained run's is written again with temperature and headline figures.
        folder: the run or model folder.
        own: the split it was trained on; None when it is not at hand.
        manifest: the split whose part is scored.
        settings: how.
        progress: is told how far the prediction is.

    Raises:
        RunError: the part has no photo to score.
    """
    part = settings.part
    warnings: list[str] = []
    exported = card.kind == "exported"
    fitted_on = None
    calibration = card.calibration
    if own is not None and not exported:
        fitted_on = predict(logits_of, card, own, "calibration", progress)
        calibration = calibrate(fitted_on, card, warnings)
    again = fitted_on is not None and part == "calibration" and own is not None and own.digest == manifest.digest
    predicted = fitted_on if again and fitted_on else predict(logits_of, card, manifest, part, progress)
    if not predicted.rows:
        raise RunError(_nothing(manifest, part, card, predicted))
    if calibration is None and not warnings:
        warnings.append("no calibration part at hand: probabilities are scored as the counter gives them")
    warnings += _doubts(predicted, own or manifest, manifest, part)

    scored = Scored(
        logits=predicted.logits.astype(np.float64),
        labels=predicted.labels,
        groups=predicted.groups,
        counts=card.counts,
        open_mean=card.open_mean,
        shares=_shares(own or manifest, card, predicted, warnings),
    )
    effort = Effort(
        resamples=settings.resamples, simulations=settings.simulations, num_bins=settings.num_bins, seed=settings.seed
    )
    temperature = None if calibration is None else calibration.temperature
    progress.begin("scores")
    blocks = scopes(scored, temperature, effort)
    progress.end()
    to = evaluation_folder(folder, part)
    said = scored.predictions(temperature or 1.0)
    result: dict[str, Any] = {
        "format": FORMAT,
        "folder": str(folder),
        "model": _about(card),
        "manifest": _about_manifest(manifest),
        "part": part,
        "photos": _photos(predicted, own or manifest),
        "calibration": None if calibration is None else asdict(calibration),
        "warnings": warnings,
        "scopes": blocks,
        "worst": _shown(predicted, said, _worst(said)[: settings.worst]),
        "right": _shown(predicted, said, _right(said)[: settings.right]),
        "sample": _shown(predicted, said, _sample(predicted, settings.seed)[: settings.sample]),
        "published": [
            {**asdict(one), "accuracy": list(one.accuracy), "per_count": list(one.per_count)} for one in PUBLISHED
        ],
        "looks": _looks(to, card, manifest, part),
    }
    kept = {part: predicted} if fitted_on is None else {"calibration": fitted_on, part: predicted}
    write_predictions(to / PREDICTIONS_FILE, kept, card, temperature or 1.0)
    files.write_json(to / EVALUATION_FILE, result)
    if not exported:
        write_card(folder, replace(card, calibration=calibration, metrics={**card.metrics, part: _headline(result)}))
    return result


def evaluation_folder(run: Path, part: Part) -> Path:
    """Where the evaluation of a part is written: RUN/evaluation for the test part, else with the part's name."""
    return run / (EVALUATION_FOLDER if part == "test" else f"{EVALUATION_FOLDER}-{part}")


def calibrate(predicted: Predicted, card: ModelCard, warnings: list[str]) -> Calibration | None:
    """The temperature for a calibration part, or None (and a warning) when it has no photos."""
    if not predicted.rows:
        warnings.append("the calibration part has no photos: no temperature was fitted")
        return None
    if len(predicted.rows) < FEW_FOR_TEMPERATURE:
        warnings.append(f"the temperature rests on {len(predicted.rows)} photos alone: it may be far off")
    classes = np.minimum(predicted.labels, card.counts.highest) - card.counts.lowest
    return Calibration(
        temperature=fit_temperature(predicted.logits.astype(np.float64), classes), num_photos=len(predicted.rows)
    )


def _nothing(manifest: Manifest, part: Part, card: ModelCard, predicted: Predicted) -> str:
    if manifest.split is None:
        return f"the manifest of {manifest.root} is not split: run `bintally split` first"
    if part == "validation" and not manifest.of_part(part) and card.is_refit:
        return "this model has learnt from the validation part as well (train.refit): score it on the test part"
    return (
        f"the {part} part has no photo to score: {len(manifest.of_part(part))} photos, {predicted.num_unlabelled} "
        f"without label, {predicted.num_out_of_range} beyond {card.counts}, {len(predicted.unreadable)} unreadable"
    )


def _doubts(predicted: Predicted, own: Manifest, manifest: Manifest, part: Part) -> list[str]:
    doubts = []
    if len(predicted.rows) < FEW_PHOTOS:
        doubts.append(f"{len(predicted.rows)} photos are few: read the intervals, not the figures")
    if part != "test":
        doubts.append(f"scored on the {part} part: choices were made on it, so the figures flatter")
    if manifest.split is not None and manifest.split.shuffled:
        doubts.append("the split is shuffled: photos of one bin lie on both sides, so the figures flatter")
    trained, siblings = _seen(predicted, own)
    if trained and part != "train":
        doubts.append(f"{trained} of {len(predicted.rows)} photos were trained on")
    if siblings and part != "train":
        doubts.append(f"{siblings} of {len(predicted.rows)} photos have a sibling of the same bin in training")
    if predicted.unreadable:
        doubts.append(f"{len(predicted.unreadable)} photos could not be read and are not scored")
    return doubts


def _seen(predicted: Predicted, own: Manifest) -> tuple[int, int]:
    """How many photos were trained on themselves, and how many others have a sibling that was."""
    trained = own.of_part("train")
    bytes_seen = {row.photo.sha256 for row in trained}
    groups_seen = {row.group for row in trained if row.group is not None}
    same = [row for row in predicted.rows if row.photo.sha256 in bytes_seen]
    others = [row for row in predicted.rows if row.photo.sha256 not in bytes_seen and row.group in groups_seen]
    return len(same), len(others)


def _shares(own: Manifest, card: ModelCard, predicted: Predicted, warnings: list[str]) -> NDArray[np.float64]:
    known = [row.label for row in own.of_part("train") if row.label is not None]
    labels = [label for label in known if card.counts.class_of(label) is not None]
    if not labels:
        warnings.append("no training labels at hand: the baselines use the class shares of the scored photos")
    return scores.class_shares(labels or predicted.labels, card.counts.highest + 1)


def _about(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.model_id,
        "kind": card.kind,
        "architecture": card.architecture,
        "precision": card.precision,
        "counts": str(card.counts),
        "names": [card.counts.name(count) for count in range(card.counts.highest + 1)],
        "lowest": card.counts.lowest,
        "open_mean": card.open_mean,
        "code_version": card.code_version,
        "trained_on": card.manifest,
        "manifest_digest": card.manifest_digest,
        "licence": card.licence,
    }


def _about_manifest(manifest: Manifest) -> dict[str, Any]:
    split = manifest.split
    return {
        "root": str(manifest.root),
        "digest": manifest.digest,
        "split": None
        if split is None
        else {
            "counts": str(split.counts),
            "seed": split.seed,
            "shuffled": split.shuffled,
            "fractions": list(split.fractions),
            "photos": {part: len(manifest.of_part(part)) for part in PARTS},
        },
    }


def _photos(predicted: Predicted, own: Manifest) -> dict[str, Any]:
    trained, siblings = _seen(predicted, own)
    return {
        "scored": len(predicted.rows),
        "groups": len(set(predicted.groups)),
        "unlabelled": predicted.num_unlabelled,
        "out_of_range": predicted.num_out_of_range,
        "unreadable": [{"photo_id": name, "reason": reason} for name, reason in predicted.unreadable],
        "trained_on": trained,
        "sibling_in_training": siblings,
    }


def _worst(said: scores.Predictions) -> list[int]:
    """The wrong answers whose true count was given the least probability, the worst first."""
    losses = scores.per_photo(said)["nll"]
    wrong = np.flatnonzero(~said.correct)
    return [int(place) for place in wrong[np.argsort(-losses[wrong], kind="stable")]]


def _right(said: scores.Predictions) -> list[int]:
    """The right answers, the surest of every count in turn: else all would be of the easiest count."""
    surest = np.argsort(-said.confidence, kind="stable")
    queues: dict[int, list[int]] = {}
    for place in surest[said.correct[surest]]:
        queues.setdefault(int(said.true_counts[place]), []).append(int(place))
    rounds = itertools.zip_longest(*(queues[count] for count in sorted(queues)))
    return [place for one in rounds for place in one if place is not None]


def _sample(predicted: Predicted, seed: int) -> list[int]:
    """Photos in an order made by hashing their ids: by chance, and the same ones for every run on them."""

    def key(place: int) -> bytes:
        return hashlib.sha256(f"{seed} {predicted.rows[place].photo.photo_id}".encode()).digest()

    return sorted(range(len(predicted.rows)), key=key)


def _shown(predicted: Predicted, said: scores.Predictions, places: Sequence[int]) -> list[dict[str, Any]]:
    """What a page shows of some photos: the answer, the record, and where the photo is."""
    shown = []
    for place in places:
        row = predicted.rows[place]
        items = () if row.record is None else row.record.items
        shown.append(
            {
                "photo_id": row.photo.photo_id,
                "uri": row.photo.uri,
                "label": int(said.true_counts[place]),
                "likeliest": int(said.likeliest[place]),
                "right": bool(said.correct[place]),
                "expected": float(said.expected[place]),
                "probability": float(said.confidence[place]),
                "probability_of_label": float(said.probabilities[place, said.classes[place]]),
                "probabilities": [float(p) for p in said.probabilities[place]],
                "blur": row.blur,
                "items": [{"name": item.name or item.sku, "quantity": item.quantity} for item in items],
            }
        )
    return shown


def _looks(to: Path, card: ModelCard, manifest: Manifest, part: Part) -> list[dict[str, Any]]:
    """Every evaluation of this part so far, this one last: a test part looked at often is no test part any more."""
    try:
        before = json.loads((to / EVALUATION_FILE).read_bytes())["looks"]
    except FileNotFoundError:
        before = []
    except (OSError, ValueError, KeyError, TypeError):
        before = [{"at": "before; the record of it was damaged"}]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return [*before, {"at": now, "part": part, "model": card.model_id, "manifest": manifest.digest[:12]}]


def _headline(result: dict[str, Any]) -> dict[str, Any]:
    """What stands on the model's card: figures of the own range, and what they were taken on."""
    block = result["scopes"][0]
    best = block["calibrated"] or block["raw"]
    figures = {name: round(one["value"], 4) for name, one in best["figures"].items()}
    split = result["manifest"]["split"] or {}
    return {
        **figures,
        "calibration_error": round(best["calibration_error"]["width"]["error"], 4),
        "calibration_error_by_chance": round(best["calibration_error"]["width"]["chance_mean"], 4),
        "num_photos": block["num_photos"],
        "shuffled_split": split.get("shuffled"),
        "looks": len(result["looks"]),
    }
