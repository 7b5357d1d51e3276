"""What a counter said of a part's photos: gathered once, kept as a Parquet file, scored from there."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bintally import files, scores
from bintally.card import ModelCard
from bintally.counts import Unreadable
from bintally.data.manifest import Manifest, Part, Row
from bintally.errors import RunError
from bintally.progress import Progress

LogitsOf = Callable[[Sequence[bytes]], Sequence[NDArray[np.float32] | Unreadable]]
"""Photos' bytes to logits (num_classes,) before any temperature, or why not; in order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """A part's photos that have a label within the counter's range and could be read, with their logits (n, K)."""

    rows: tuple[Row, ...]
    logits: NDArray[np.float32]
    unreadable: tuple[tuple[str, str], ...]
    num_unlabelled: int
    num_out_of_range: int

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) True counts, not clipped."""
        return np.array([row.label for row in self.rows], dtype=np.int64)

    @property
    def groups(self) -> tuple[str, ...]:
        """N group names; a photo without one is a group of its own."""
        return tuple(group_of(row) for row in self.rows)


def predict(logits_of: LogitsOf, card: ModelCard, manifest: Manifest, part: Part, progress: Progress) -> Predicted:
    """Logits of a part's photos that the counter's range covers. What cannot be read is listed and stops nothing."""
    rows = manifest.of_part(part)
    known = [row for row in rows if row.label is not None]
    within = [row for row in known if row.label is not None and card.counts.class_of(row.label) is not None]
    kept: list[Row] = []
    logits: list[NDArray[np.float32]] = []
    unreadable: list[tuple[str, str]] = []
    progress.begin(f"predict {part}", len(within))
    try:
        for start in range(0, len(within), _CHUNK):
            chunk = within[start : start + _CHUNK]
            photos = [_read(manifest, row) for row in chunk]
            answers = iter(logits_of([one for one in photos if isinstance(one, bytes)]))
            for row, photo in zip(chunk, photos, strict=True):
                answer = photo if isinstance(photo, Unreadable) else next(answers)
                if isinstance(answer, Unreadable):
                    unreadable.append((row.photo.photo_id, answer.reason))
                else:
                    kept.append(row)
                    logits.append(answer)
            progress.advance(len(chunk))
    finally:
        progress.end()
    return Predicted(
        rows=tuple(kept),
        logits=np.stack(logits) if logits else np.zeros((0, card.counts.num_classes), dtype=np.float32),
        unreadable=tuple(unreadable),
        num_unlabelled=len(rows) - len(known),
        num_out_of_range=len(known) - len(within),
    )


def group_of(row: Row) -> str:
    """The photo's group; a photo without one is a group of its own."""
    return row.group if row.group is not None else f"photo {row.photo.photo_id}"


def write_predictions(path: Path, parts: Mapping[Part, Predicted], card: ModelCard, temperature: float) -> None:
    """Writes photo_id, part, group, label, logits (raw) and probabilities (calibrated; index = count)."""
    values: list[dict[str, Any]] = []
    for part, predicted in parts.items():
        if not predicted.rows:
            continue
        said = scores.predictions_of(
            predicted.logits, predicted.labels, card.counts, temperature=temperature, open_mean=card.open_mean
        )
        values += [
            {
                "photo_id": row.photo.photo_id,
                "part": part,
                "group": row.group,
                "label": row.label,
                "logits": predicted.logits[place].tolist(),
                "probabilities": said.probabilities[place].tolist(),
            }
            for place, row in enumerate(predicted.rows)
        ]
    with files.replacing(path) as partial:
        pq.write_table(pa.Table.from_pylist(values, schema=_SCHEMA), partial)


def _read(manifest: Manifest, row: Row) -> bytes | Unreadable:
    try:
        data = manifest.path_of(row).read_bytes()
    except OSError as error:
        return Unreadable(reason=f"cannot read {manifest.path_of(row)}: {error.strerror}")
    if hashlib.sha256(data).hexdigest() != row.photo.sha256:
        return Unreadable(reason="the file differs from the manifest")
    return data


_CHUNK = 256

_SCHEMA = pa.schema(
    [
        ("photo_id", pa.string()),
        ("part", pa.string()),
        ("group", pa.string()),
        ("label", pa.int64()),
        ("logits", pa.list_(pa.float32())),
        ("probabilities", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """What `write_predictions` kept of n photos: ids, parts, groups, labels and probabilities (n, K), index = count."""

    photo_ids: tuple[str, ...]
    parts: tuple[Part, ...]
    groups: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def of_part(self, part: Part) -> "Kept":
        """Those of one part."""
        return self.where(np.array([one == part for one in self.parts], dtype=np.bool_))

    def where(self, mask: NDArray[np.bool_]) -> "Kept":
        """Those that `mask` (n,) names."""
        places = np.flatnonzero(mask).tolist()
        return Kept(
            photo_ids=tuple(self.photo_ids[k] for k in places),
            parts=tuple(self.parts[k] for k in places),
            groups=tuple(self.groups[k] for k in places),
            labels=self.labels[places],
            probabilities=self.probabilities[places],
        )


def read_predictions(path: Path) -> Kept:
    """Reads what an evaluation said of its photos; a photo without a group is a group of its own.

    Raises:
        RunError: there is no such file, or it is damaged.
    """
    try:
        rows = pq.read_table(path, schema=_SCHEMA).to_pylist()
        return Kept(
            photo_ids=tuple(row["photo_id"] for row in rows),
            parts=tuple(row["part"] for row in rows),
            groups=tuple(row["group"] or f"photo {row['photo_id']}" for row in rows),
            labels=np.array([row["label"] for row in rows], dtype=np.int64),
            probabilities=np.array([row["probabilities"] for row in rows], dtype=np.float64),
        )
    except FileNotFoundError as error:
        raise RunError(f"there is no {path}: run `bintally evaluate` first") from error
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise RunError(f"{path} is damaged: run `bintally evaluate` again") from error


def joined(several: Sequence[Kept]) -> Kept:
    """All of them, each photo once: as the first that has it says. At least one."""
    whole = Kept(
        photo_ids=tuple(name for one in several for name in one.photo_ids),
        parts=tuple(part for one in several for part in one.parts),
        groups=tuple(group for one in several for group in one.groups),
        labels=np.concatenate([one.labels for one in several]),
        probabilities=np.concatenate([one.probabilities for one in several]),
    )
    first = {name: place for place, name in reversed(list(enumerate(whole.photo_ids)))}
    return whole.where(np.array([first[name] == place for place, name in enumerate(whole.photo_ids)], dtype=np.bool_))
