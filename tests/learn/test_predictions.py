from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bintally.card import ModelCard
from bintally.counts import CountRange, Unreadable
from bintally.data.manifest import Manifest
from bintally.learn import predictions
from bintally.learn.predictions import predict
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
