import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bintally import scores
from bintally.card import ModelCard
from bintally.counts import CountRange, Unreadable
from bintally.data.manifest import Manifest, Part
from bintally.errors import RunError
from bintally.learn import predictions
from bintally.learn.predictions import Kept, Predicted, joined, predict, read_predictions, write_predictions
from bintally.pixels import PixelSpec
from bintally.progress import Silent

CARD = ModelCard(architecture="fake", pixels=PixelSpec(size=8), counts=CountRange())


def test_answers_stay_with_their_photos_over_chunks(
    make_manifest: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "_CHUNK", 4)
    manifest = make_manifest(num=40)
    seen: list[int] = []

    def logits_of(photos: Sequence[bytes]) -> list[NDArray[np.float32] | Unreadable]:
        seen.append(len(photos))
        answers: list[NDArray[np.float32] | Unreadable] = []
        for photo in photos:
            wanted = len(photo)
            answers.append(Unreadable(reason="odd") if wanted % 7 == 0 else np.full(6, wanted, dtype=np.float32))
        return answers

    found = predict(logits_of, CARD, manifest, "train", Silent())
    rows = manifest.of_part("train")
    assert max(seen) == 4
    assert sum(seen) == len(rows) == 24
    assert len(found.rows) + len(found.unreadable) == len(rows)
    for row, logits in zip(found.rows, found.logits, strict=True):
        assert logits.tolist() == [row.num_bytes] * 6
    assert {name for name, _ in found.unreadable} == {r.photo.photo_id for r in rows if r.num_bytes % 7 == 0}


def test_an_empty_part(make_manifest: Callable[..., Manifest]) -> None:
    found = predict(lambda photos: [], CARD, make_manifest(num=10), "test", Silent())
    assert found.logits.shape == (0, 6)
    assert found.rows == ()


def kept(ids: str, part: Part, chance: float) -> Kept:
    return Kept(
        photo_ids=tuple(ids),
        parts=(part,) * len(ids),
        groups=tuple(ids),
        labels=np.zeros(len(ids), dtype=np.int64),
        probabilities=np.tile([chance, 1 - chance], (len(ids), 1)),
    )


def test_what_is_written_is_read_back(make_manifest: Callable[..., Manifest], tmp_path: Path) -> None:
    manifest = make_manifest(num=20)
    rows = tuple(dataclasses.replace(row, group=None) for row in manifest.of_part("train"))
    logits = np.random.default_rng(0).normal(size=(len(rows), 6)).astype(np.float32)
    predicted = Predicted(rows=rows, logits=logits, unreadable=(), num_unlabelled=0, num_out_of_range=0)
    write_predictions(tmp_path / "p.parquet", {"train": predicted}, CARD, 2.0)
    found = read_predictions(tmp_path / "p.parquet")
    assert found.photo_ids == tuple(row.photo.photo_id for row in rows)
    assert set(found.parts) == {"train"}
    assert found.groups == predicted.groups
    assert np.array_equal(found.labels, predicted.labels)
    assert np.allclose(found.probabilities, scores.softmax(logits, 2.0))
    assert found.of_part("test").photo_ids == ()


def test_what_is_no_predictions_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `bintally evaluate` first"):
        read_predictions(tmp_path / "p.parquet")
    (tmp_path / "p.parquet").write_text("junk")
    with pytest.raises(RunError, match="damaged"):
        read_predictions(tmp_path / "p.parquet")


def test_joined_predictions_have_each_photo_once() -> None:
    found = joined([kept("ab", "test", 0.1), kept("bc", "calibration", 0.7)])
    assert found.photo_ids == ("a", "b", "c")
    assert found.parts == ("test", "test", "calibration")
    assert found.probabilities[:, 0].tolist() == [0.1, 0.1, 0.7]
