"""What of a split manifest a training needs: photos and labels of two parts, checked for what can be learnt."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bintally.bins import BinRecord
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, Row
from bintally.errors import ManifestError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What of a manifest a training needs.

    Attributes:
        counts: the split's range.
        train_paths: photos to learn from.
        train_sha256s: their files' hashes.
        train_classes: (num,) their class indices.
        train_labels: (num,) their true counts, not clipped.
        train_groups: their groups; a photo without one is a group of its own.
        train_records: what is on record of them; None where there is no record, or a label that contradicts it.
        validation_paths: photos to choose the best epoch by.
        validation_sha256s: their files' hashes.
        validation_groups: their groups; a photo without one is a group of its own.
        validation_labels: (num,) their true counts, not clipped.
        open_mean: mean training label in the open last class; None when the last class is exact.
        line: a line on all that, for the card.
    """

    counts: CountRange
    train_paths: tuple[Path, ...]
    train_sha256s: tuple[str, ...]
    train_classes: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    train_groups: tuple[str, ...]
    train_records: tuple[BinRecord | None, ...]
    validation_paths: tuple[Path, ...]
    validation_sha256s: tuple[str, ...]
    validation_groups: tuple[str, ...]
    validation_labels: NDArray[np.int64]
    open_mean: float | None
    line: str

    @classmethod
    def of(cls, manifest: Manifest, *, judged: bool = True) -> "TrainingData":
        """Takes the parts of a split manifest; rows without a label, or with one out of range, are left out.

        Args:
            manifest: the split.
            judged: whether there must be photos to validate on.

        Raises:
            ManifestError: there is no split, or nothing can be learnt from it.
        """
        split = manifest.split
        if split is None:
            raise ManifestError(
                "the manifest has no parts: run `bintally split` and train on the file that it writes"
            )
        counts = split.counts

        def usable(row: Row) -> bool:
            return row.label is not None and counts.class_of(row.label) is not None

        rows = [row for row in manifest.of_part("train") if usable(row)]
        validation = [row for row in manifest.of_part("validation") if usable(row)]
        if len(rows) < 2 or (judged and not validation):
            raise ManifestError(
                f"{len(rows)} photos to train on and {len(validation)} to validate on are too few: "
                "2 and 1 are the least; fetch more photos, or split with other fractions"
                + (
                    ""
                    if validation
                    else " (the split of a run that was refit has none: take the one that it began with)"
                )
            )
        labels = np.array([row.label for row in rows], dtype=np.int64)
        classes = np.minimum(labels, counts.highest) - counts.lowest
        if len(set(classes.tolist())) < 2:
            raise ManifestError(
                f"every training photo holds {counts.name(int(classes[0]) + counts.lowest)}: there is nothing to learn"
            )
        beyond = labels[labels >= counts.highest]
        mean = float(beyond.mean()) if len(beyond) else float(counts.highest)
        apart = f"{len(validation) or 'none kept apart'} for validation"
        return cls(
            counts=counts,
            train_paths=tuple(manifest.path_of(row) for row in rows),
            train_sha256s=tuple(row.photo.sha256 for row in rows),
            train_classes=classes,
            train_labels=labels,
            train_groups=tuple(_group(row) for row in rows),
            train_records=tuple(row.record if row.label == row.expected_quantity else None for row in rows),
            validation_paths=tuple(manifest.path_of(row) for row in validation),
            validation_sha256s=tuple(row.photo.sha256 for row in validation),
            validation_groups=tuple(_group(row) for row in validation),
            validation_labels=np.array([row.label for row in validation], dtype=np.int64),
            open_mean=mean if counts.open_ended else None,
            line=(
                f"{len(rows)} photos for training, {apart}, of counts {counts}, "
                f"split {'shuffled' if split.shuffled else 'by group'} with seed {split.seed}"
            ),
        )

    @property
    def empty(self) -> list[str]:
        """Names of the counts that no training photo holds."""
        found = np.bincount(self.train_classes, minlength=self.counts.num_classes)
        return [self.counts.name(k + self.counts.lowest) for k in np.flatnonzero(found == 0).tolist()]

    def sizes(self) -> dict[str, int]:
        """How many photos each part has."""
        return {"train": len(self.train_paths), "validation": len(self.validation_paths)}


def _group(row: Row) -> str:
    return f"photo {row.photo.photo_id}" if row.group is None else row.group
