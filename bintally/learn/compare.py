"""Two runs against each other on the same photos: paired differences, with intervals over groups drawn for both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from bintally import resampling, scores
from bintally.card import read_card
from bintally.errors import RunError
from bintally.learn.evaluate import PREDICTIONS_FILE, evaluation_folder

FIGURES: dict[str, Literal["higher", "lower"]] = {
    "accuracy": "higher",
    "within_one": "higher",
    "nll": "lower",
    "rmse": "lower",
    "rmse_expected": "lower",
    "mae": "lower",
    "brier": "lower",
}
"""The figures compared, and which way is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """How two runs are compared.

    Attributes:
        part: whose photos.
        up_to: only photos with at most so many items, and both runs are told that there are no more: what they say is
            renormalised to 0..`up_to`. So a counter of all bins is held against one of 0-5. None takes all as they are.
        resamples: draws of groups.
        level: share of the draws between an interval's ends.
        seed: of the draws.
    """

    part: Literal["train", "validation", "calibration", "test"] = "test"
    up_to: Annotated[int, Field(ge=1)] | None = None
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: Annotated[int, Field(ge=0)] = 0


def compare(first: Path, second: Path, settings: CompareSettings) -> dict[str, Any]:
    """Compares two evaluated runs by the paired bootstrap over groups.

    Args:
        first: a run (or exported model) that `bintally evaluate` has scored.
        second: another one, scored on the same photos (up to `settings.up_to`).
        settings: how.

    Returns:
        The runs, the part, `up_to`, how many photos and groups, and for each of `FIGURES` both values, the difference
        (first less second) with the ends of its interval, and which is "better": "first", "second" or "within noise".

    Raises:
        RunError: a run has no predictions, or the two were not scored on the same photos and labels.
    """
    one, two = _read(first, settings), _read(second, settings)
    _same_photos(first, second, one, two)
    order = sorted(one)
    groups = [_group(one[photo], photo) for photo in order]
    said = tuple(_predictions(run, rows, order, settings) for run, rows in ((first, one), (second, two)))
    differences = resampling.bootstrap_difference(
        said[0], said[1], groups, resamples=settings.resamples, level=settings.level, seed=settings.seed
    )
    values = [scores.figures(each) for each in said]
    return {
        "first": str(first),
        "second": str(second),
        "part": settings.part,
        "up_to": settings.up_to,
        "num_photos": len(order),
        "num_groups": len(set(groups)),
        "level": settings.level,
        "figures": {
            name: {
                "first": values[0][name],
                "second": values[1][name],
                "difference": differences[name].value,
                "low": differences[name].low,
                "high": differences[name].high,
                "better": _better(differences[name], wish),
            }
            for name, wish in FIGURES.items()
        },
    }


def _better(difference: resampling.Interval, wish: Literal["higher", "lower"]) -> str:
    if difference.low <= 0 <= difference.high:
        return "within noise"
    return "first" if (difference.value > 0) == (wish == "higher") else "second"


def _read(folder: Path, settings: CompareSettings) -> dict[str, dict[str, Any]]:
    part, up_to = settings.part, settings.up_to
    path = evaluation_folder(folder, part) / PREDICTIONS_FILE
    try:
        table = pq.read_table(path, columns=["photo_id", "part", "group", "label", "probabilities"])
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} has no predictions: run `bintally evaluate {folder} --part {part}` first"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read: run `bintally evaluate {folder}` again") from error
    rows = {row["photo_id"]: row for row in table.to_pylist() if row["part"] == part}
    if not rows:
        raise RunError(f"{folder} has no predictions for {part}: run `bintally evaluate {folder} --part {part}`")
    if up_to is not None:
        rows = {photo: row for photo, row in rows.items() if row["label"] <= up_to}
        if not rows:
            raise RunError(f"{folder} was scored on no {part} photo with at most {up_to} items: raise compare.up_to")
    return rows


def _same_photos(first: Path, second: Path, one: dict[str, Any], two: dict[str, Any]) -> None:
    if one.keys() != two.keys():
        raise RunError(
            f"{first} and {second} were not scored on the same photos: {len(one.keys() - two.keys()):,} are only in "
            f"the first, {len(two.keys() - one.keys()):,} only in the second; evaluate both with the same --manifest, "
            f"or compare --up-to the lower of their ranges"
        )
    changed = [photo for photo in one if one[photo]["label"] != two[photo]["label"]]
    if changed:
        raise RunError(
            f"{first} and {second} were scored against different labels for {len(changed):,} photos, "
            f"such as {changed[0]}: evaluate both with the same --manifest"
        )


def _group(row: dict[str, Any], photo_id: str) -> str:
    return row["group"] if row["group"] is not None else f"photo {photo_id}"


def _predictions(
    folder: Path, rows: dict[str, Any], order: list[str], settings: CompareSettings
) -> scores.Predictions:
    card = read_card(folder, check_files=False)
    as_said = scores.Predictions(
        probabilities=np.array([rows[photo]["probabilities"] for photo in order]),
        true_counts=np.array([rows[photo]["label"] for photo in order]),
        open_mean=max(card.open_mean or 0.0, float(card.counts.highest)) if card.counts.open_ended else None,
    )
    if settings.up_to is None:
        return as_said
    try:
        return as_said.up_to(settings.up_to)
    except ValueError as error:
        raise RunError(f"{folder}: {error}: lower compare.up_to") from error
