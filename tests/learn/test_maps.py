"""Maps mark what the counter uses, and the deletion test tells a map that does from one that does not."""

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from bintally.counts import CountRange
from bintally.learn import maps
from bintally.progress import Silent
from bintally.scores import Predictions, predictions_of

SIZE, GRID = 64, 8
COUNTS = CountRange(lowest=0, highest=2)


def photos(num: int = 24) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Dark squares with none, one or two bright blocks in cells of an 8 × 8 grid."""
    luck = np.random.default_rng(0)
    squares = np.full((num, SIZE, SIZE, 3), 60, dtype=np.uint8)
    labels = np.arange(num) % 3
    for square, label in zip(squares, labels, strict=True):
        for cell in luck.permutation(GRID * GRID)[:label]:
            y, x = 8 * (cell // GRID), 8 * (cell % GRID)
            square[y : y + 8, x : x + 8] = 250
    return squares, labels.astype(np.int64)


def brightness(squares: NDArray[np.uint8], *, lie: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A counter of bright cells whose maps are its reasons, or, when it lies, the very opposite."""
    cells = squares[..., 0].reshape(len(squares), GRID, 8, GRID, 8).mean(axis=(2, 4)) / 255
    lit = np.clip(2 * (cells - 0.3), 0, None).astype(np.float32)
    number = lit.sum(axis=(1, 2)) / 1.37
    logits = -8 * (number[:, None] - np.arange(3)) ** 2
    each = np.stack([k * (lit if not lie else -lit) for k in (-1, 0, 1)], axis=1).astype(np.float32)
    return logits.astype(np.float32), each


def mapped(*, lie: bool = False, regions: dict[str, NDArray[np.bool_]] | None = None) -> maps.Mapped:
    squares, labels = photos()
    with_counts = partial(predictions_of, counts=COUNTS)

    def predictions(logits: NDArray[np.float32], counts: NDArray[np.int64]) -> Predictions:
        return with_counts(logits, counts)

    def maps_of(some: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return brightness(some, lie=lie)

    return maps.map_photos(
        maps_of,
        squares,
        predictions,
        labels,
        regions or {},
        share=0.1,
        batch_size=7,
        seed=0,
        progress=Silent(),
    )


def test_taking_away_what_the_map_marks_changes_the_answer() -> None:
    found = mapped()
    assert found.said.correct.all()
    two = found.said.true_counts == 2
    after = {name: one.expected[two].mean() for name, one in found.without.items()}
    assert after["hottest"] < 1.2
    assert after["coldest"] > 1.8
    assert after["elsewhere"] > 1.5
    (row, right) = maps.deletion(found, [str(k) for k in range(len(found.said))], resamples=200, seed=0)
    assert (row["of"], right["of"]) == ("all", "right")
    assert row["hottest_less_coldest"]["drop"]["low"] > 0
    assert row["hottest"]["shift"]["value"] < 0
    assert row["coldest"]["changed"]["value"] < row["hottest"]["changed"]["value"]


def test_a_map_that_marks_the_wrong_places_is_found_out() -> None:
    found = mapped(lie=True)
    (row, *_) = maps.deletion(found, [str(k) for k in range(len(found.said))], resamples=200, seed=0)
    assert row["hottest_less_coldest"]["drop"]["high"] < 0


def test_evidence_in_regions_is_held_against_their_area() -> None:
    squares, _ = photos()
    found = mapped(regions={"bright": squares[..., 0] > 100})
    rows = {row["name"]: row for row in maps.regions_held(found, [str(k) for k in range(24)], resamples=100, seed=0)}
    assert set(rows) == {"rim", "bright"}
    assert rows["bright"]["area"]["value"] == pytest.approx(1 / 64)  # a cell on average
    assert rows["bright"]["more"]["low"] > 0
    assert rows["rim"]["area"]["value"] == pytest.approx(1 - 36 / 64)


def test_masks_are_as_large_as_asked_even_where_a_map_is_flat() -> None:
    luck = np.random.default_rng(0)
    for heat in (np.zeros((40, 40), dtype=np.float32), luck.normal(size=(40, 40)).astype(np.float32)):
        masks = maps.masks_of(heat, 0.1, luck)
        assert {int(one.sum()) for one in masks.values()} == {160}
        assert not (masks["hottest"] & masks["coldest"]).any()
    assert heat[masks["hottest"]].min() >= heat[~masks["hottest"]].max()


def test_what_speaks_for_all_counts_alike_is_no_evidence() -> None:
    each = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    logits = np.array([[0, 1, 0], [2, 0, 0]], dtype=np.float32)
    same = np.full((2, 1, 4, 4), 5.0, dtype=np.float32)
    assert np.allclose(maps.evidence_of(logits, each), maps.evidence_of(logits, each + same), atol=1e-5)
    assert np.allclose(maps.evidence_of(logits, each)[1], each[1, 0] - each[1].mean(axis=0))
