"""Two runs on the same photos: right differences, honest noise, and no comparison of apples with pears."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bintally import scores
from bintally.card import ModelCard, write_card
from bintally.counts import CountRange
from bintally.errors import RunError
from bintally.learn.compare import FIGURES, CompareSettings, compare
from bintally.pixels import PixelSpec

N = 300
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(
        name: str,
        *,
        skill: float,
        seed: int = 0,
        part: str = "test",
        lowest: int = 0,
        highest: int = 5,
        photos: int = N,
    ) -> Path:
        counts = CountRange(lowest=lowest, highest=highest, open_ended=highest > 5)
        run = tmp_path / name
        (run / "evaluation").mkdir(parents=True)
        write_card(run, ModelCard(architecture="tiny", pixels=PixelSpec(), counts=counts))
        labels = np.random.default_rng(9).integers(1, highest + 1, N)[:photos]
        logits = np.random.default_rng(seed).normal(size=(N, counts.num_classes))[:photos]
        logits[np.arange(photos), labels - lowest] += skill
        said = scores.predictions_of(logits, labels, counts, open_mean=highest + 2.0 if highest > 5 else None)
        rows = [
            {
                "photo_id": str(n),
                "part": part,
                "group": f"g{n // 2}" if n % 3 else None,
                "label": int(labels[n]),
                "logits": logits[n].tolist(),
                "probabilities": said.probabilities[n].tolist(),
            }
            for n in range(photos)
        ]
        pq.write_table(pa.Table.from_pylist(rows), run / "evaluation" / "predictions.parquet")
        return run

    return make


def test_a_better_run_is_better(make_run: MakeRun) -> None:
    good, bad = make_run("good", skill=3.0), make_run("bad", skill=0.5, seed=1)
    found = compare(good, bad, CompareSettings(resamples=300))
    assert (found["num_photos"], found["part"]) == (N, "test")
    for name, wish in FIGURES.items():
        figure = found["figures"][name]
        assert figure["better"] == "first", name
        assert figure["difference"] == pytest.approx(figure["first"] - figure["second"])
        assert figure["low"] < figure["difference"] < figure["high"]
        assert (figure["difference"] > 0) == (wish == "higher")
    back = compare(bad, good, CompareSettings(resamples=300))
    assert {one["better"] for one in back["figures"].values()} == {"second"}


def test_equal_skill_is_within_noise(make_run: MakeRun) -> None:
    found = compare(make_run("a", skill=1.0), make_run("b", skill=1.0, seed=3), CompareSettings(resamples=300))
    assert found["figures"]["nll"]["better"] == "within noise"


def test_the_same_run_does_not_differ(make_run: MakeRun) -> None:
    run = make_run("a", skill=1.0)
    for figure in compare(run, run, CompareSettings(resamples=100))["figures"].values():
        assert (figure["difference"], figure["low"], figure["high"]) == (0, 0, 0)


def test_ranges_may_differ_as_long_as_the_photos_do_not(make_run: MakeRun) -> None:
    one, two = make_run("a", skill=2.0), make_run("b", skill=2.0, lowest=1)
    assert compare(one, two, CompareSettings(resamples=100))["num_photos"] == N


def test_a_counter_of_all_bins_is_told_that_there_are_no_more_than_five(make_run: MakeRun, tmp_path: Path) -> None:
    wide, told = make_run("wide", skill=1.0, highest=8), tmp_path / "told"
    # The same counter, cut to 0-5 beforehand.
    rows = [
        row for row in pq.read_table(wide / "evaluation" / "predictions.parquet").to_pylist() if row["label"] <= 5
    ]
    for row in rows:
        kept = np.array(row["probabilities"][:6])
        row["probabilities"] = (kept / kept.sum()).tolist()
    (told / "evaluation").mkdir(parents=True)
    write_card(told, ModelCard(architecture="tiny", pixels=PixelSpec(), counts=CountRange(lowest=0, highest=5)))
    pq.write_table(pa.Table.from_pylist(rows), told / "evaluation" / "predictions.parquet")

    found = compare(wide, told, CompareSettings(resamples=100, up_to=5))
    assert (found["num_photos"], found["up_to"]) == (len(rows), 5)
    assert {one["difference"] for one in found["figures"].values()} == {0}
    with pytest.raises(RunError, match="not scored on the same photos"):
        compare(wide, told, CompareSettings(resamples=100))
    with pytest.raises(RunError, match=r"wide: an open class from 8 .* lower compare\.up_to"):
        compare(wide, wide, CompareSettings(resamples=100, up_to=8))


def test_no_photo_with_so_few_items(make_run: MakeRun) -> None:
    run = make_run("a", skill=1.0)
    path = run / "evaluation" / "predictions.parquet"
    pq.write_table(pa.Table.from_pylist([r for r in pq.read_table(path).to_pylist() if r["label"] > 2]), path)
    with pytest.raises(RunError, match="no test photo with at most 2 items"):
        compare(run, run, CompareSettings(up_to=2))


def test_other_photos_are_an_error(make_run: MakeRun) -> None:
    one, two = make_run("a", skill=2.0), make_run("b", skill=2.0, photos=N - 7)
    with pytest.raises(RunError, match="7 are only in the first, 0 only in the second"):
        compare(one, two, CompareSettings())


def test_other_labels_are_an_error(make_run: MakeRun) -> None:
    one, two = make_run("a", skill=2.0), make_run("b", skill=2.0)
    path = two / "evaluation" / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[4]["label"] = rows[4]["label"] % 5 + 1
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(RunError, match="different labels for 1 photos, such as 4"):
        compare(one, two, CompareSettings())


def test_a_run_without_predictions_says_what_to_do(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", skill=1.0, part="validation")
    with pytest.raises(RunError, match=r"bintally evaluate .*a --part test"):
        compare(run, run, CompareSettings())
    with pytest.raises(RunError, match=r"has no predictions: run `bintally evaluate .* --part validation"):
        compare(run, tmp_path / "none", CompareSettings(part="validation"))
    (run / "evaluation" / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="cannot be read"):
        compare(run, run, CompareSettings())
