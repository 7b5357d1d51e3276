"""What of a manifest is trained on."""

import dataclasses
from collections.abc import Callable

import pytest

from bintally.counts import CountRange
from bintally.data.manifest import Manifest
from bintally.errors import ManifestError
from bintally.learn.material import TrainingData


def test_rows_without_a_label_or_out_of_range_are_left_out(make_manifest: Callable[..., Manifest]) -> None:
    manifest = make_manifest(num=40, counts=CountRange(lowest=1, highest=3))
    first = next(row for row in manifest.of_part("train") if row.label in {1, 2, 3})
    rows = tuple(dataclasses.replace(row, label=None) if row is first else row for row in manifest.rows)
    data = TrainingData.of(dataclasses.replace(manifest, rows=rows))
    wanted = [row for row in rows if row.part == "train" and row.label in {1, 2, 3}]
    assert [path.stem for path in data.train_paths] == [row.photo.photo_id for row in wanted]
    assert data.train_classes.tolist() == [row.label - 1 for row in wanted if row.label is not None]
    assert set(data.validation_labels.tolist()) <= {1, 2, 3}
    assert data.open_mean is None
    assert f"{len(wanted)} photos for training" in data.line
    assert data.sizes() == {"train": len(wanted), "validation": len(data.validation_paths)}


def test_an_open_class_takes_all_above_it(make_manifest: Callable[..., Manifest]) -> None:
    manifest = make_manifest(num=40, most=9, counts=CountRange(lowest=0, highest=4, open_ended=True))
    data = TrainingData.of(manifest)
    labels = [row.label for row in manifest.of_part("train") if row.label is not None]
    assert data.train_classes.tolist() == [min(label, 4) for label in labels]
    assert data.validation_labels.max() > 4  # not clipped: errors are in items
    above = [label for label in labels if label >= 4]
    assert data.open_mean == pytest.approx(sum(above) / len(above))


def test_an_open_class_that_is_empty_has_its_own_start_as_mean(make_manifest: Callable[..., Manifest]) -> None:
    data = TrainingData.of(make_manifest(num=20, most=3, counts=CountRange(highest=7, open_ended=True)))
    assert data.open_mean == 7
    assert data.empty[-1] == "7+"


def test_no_split_says_which_verb_makes_one(make_manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(ManifestError, match="bintally split"):
        TrainingData.of(make_manifest(num=10, split=False))
