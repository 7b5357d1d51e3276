"""An examination reads what an evaluation kept, maps a few photos, and writes figures and a form."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bintally.card import Calibration, ModelCard, read_card, write_card
from bintally.counts import CountRange, Unreadable
from bintally.data.manifest import Manifest, Row, digest_of
from bintally.errors import RunError
from bintally.files import sha256_of
from bintally.learn.by_eye import Answers
from bintally.learn.evaluate import EvaluateSettings, evaluate_counter
from bintally.learn.examine import Beside, ExamineSettings, examine
from bintally.pixels import PixelSpec, read_square
from bintally.progress import Silent

QUICK = ExamineSettings(photos=12, shown=4, suspects=5, eyes=6, resamples=100, batch_size=5)


@dataclass(frozen=True, kw_only=True)
class Halves:
    """A cut by the photo's number."""

    name: str = "half"
    about: str = "Odd or even."
    order: tuple[str, ...] = ("odd", "even")
    of: tuple[str, ...] = ()


def cuts(rows: Sequence[Row]) -> list[Halves]:
    return [Halves(of=tuple("odd" if int(row.photo.photo_id) % 2 else "even" for row in rows))]


def maps_of(squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Counts by brightness, in a grid of four by four."""
    cells = squares.reshape(len(squares), 4, 8, 4, 8, 3).mean(axis=(2, 4, 5)).astype(np.float32) / 255
    maps = np.stack([cells * k for k in range(6)], axis=1)
    return maps.mean(axis=(2, 3)) * 3 - np.arange(6, dtype=np.float32), maps


@pytest.fixture
def world(make_manifest: Callable[..., Manifest], tmp_path: Path) -> tuple[Path, Manifest]:
    """A run whose calibration part was evaluated; its photos are scored there as if they were the test part's."""
    manifest = make_manifest(num=120)
    rows = tuple(replace(row, part="test" if row.part == "validation" else row.part) for row in manifest.rows)
    manifest = replace(manifest, rows=rows)
    manifest = replace(manifest, digest=digest_of(manifest))
    run = tmp_path / "run"
    write_card(
        run,
        ModelCard(
            architecture="bright",
            pixels=PixelSpec(size=32),
            counts=CountRange(),
            calibration=Calibration(temperature=2.0, num_photos=24),
        ),
    )

    def logits_of(photos: Sequence[bytes]) -> list[NDArray[np.float32] | Unreadable]:
        return list(maps_of(np.stack([read_square(photo, 32) for photo in photos]))[0])

    settings = EvaluateSettings(resamples=100, simulations=100)
    evaluate_counter(logits_of, read_card(run), run, manifest, manifest, settings, Silent())
    return run, manifest


def call(world: tuple[Path, Manifest], to: Path, *, answers: Answers | None = None, **wishes: object) -> dict:  # type: ignore[type-arg]
    run, manifest = world
    ids = [row.photo.photo_id for row in manifest.of_part("test")]
    beside = Beside(
        cuts=cuts,
        look_alikes=[ids[:2], ids[2:5]],
        changes=[(ids[0], ids[1], "a cup")],
        regions={"left": lambda square: np.arange(square.shape[1])[None] < np.full((square.shape[0], 1), 16)},
    )
    settings = replace(QUICK, **wishes)  # type: ignore[arg-type]
    return examine(run, to, read_card(run), manifest, maps_of, beside, settings, Silent(), answers=answers)


def test_everything_is_of_the_evaluated_photos(world: tuple[Path, Manifest], tmp_path: Path) -> None:
    found = call(world, tmp_path / "to")
    evaluation = json.loads((world[0] / "evaluation" / "evaluation.json").read_bytes())
    best = evaluation["scopes"][0]["calibrated"]["figures"]
    assert found["figures"]["accuracy"]["value"] == pytest.approx(best["accuracy"]["value"])
    assert found["figures"]["nll"]["value"] == pytest.approx(best["nll"]["value"])
    assert sum(row["photos"] for row in found["slices"][0]["rows"]) == found["photos"]["examined"] == 24
    maps = found["maps"]
    assert maps["photos"] == 12
    assert maps["agree"] == 1.0
    assert len(maps["right"]) <= 4
    assert len(maps["wrong"]) == 4
    assert {row["name"] for row in maps["regions"]} == {"rim", "left"}
    assert next(row for row in maps["regions"] if row["name"] == "left")["area"]["value"] == 0.5
    assert np.shape(maps["wrong"][0]["evidence"]) == (4, 4)
    assert found["labels"]["parts"] == ["calibration", "test"]
    assert found["labels"]["photos"] == 48
    worst = [one["probability_of_label"] for one in found["labels"]["suspects"]]
    assert worst == sorted(worst)
    assert found["limits"]["look_alikes"]["photos"] == 5
    assert json.loads((tmp_path / "to" / "examination.json").read_bytes()) == found


def test_the_form_tells_no_label_and_is_not_written_over(world: tuple[Path, Manifest], tmp_path: Path) -> None:
    found = call(world, tmp_path)
    form = tmp_path / "by-eye.csv"
    lines = list(csv.DictReader(form.read_text(encoding="utf-8").splitlines()))
    assert len(lines) == 7
    assert all(line["answer"] == "" for line in lines)
    assert [line["photo"] for line in lines[:6]] == [one["photo_id"] for one in found["by_eye"]["photos"]]
    form.write_text("mine")
    call(world, tmp_path)
    assert form.read_text() == "mine"


def test_a_persons_answers_stand_beside(world: tuple[Path, Manifest], tmp_path: Path) -> None:
    rows = world[1].of_part("test")
    answers = Answers(counts={row.photo.photo_id: row.label or 0 for row in rows[:10]}, changes={("a", "b"): True})
    judged = call(world, tmp_path, answers=answers)["limits"]["by_eye"]
    assert judged["counted"]["photos"] == 10
    assert judged["counted"]["accuracy"]["value"] == 1.0
    assert judged["changes"]["unseen"]["value"] == 0.0


def test_the_same_seed_gives_the_same_figures(world: tuple[Path, Manifest], tmp_path: Path) -> None:
    assert call(world, tmp_path / "a") == call(world, tmp_path / "b")
    other = call(world, tmp_path / "c", seed=1)
    assert [one["photo_id"] for one in other["by_eye"]["photos"]] != [
        one["photo_id"] for one in call(world, tmp_path / "a")["by_eye"]["photos"]
    ]


def test_photos_that_moved_are_left_out_of_the_maps(world: tuple[Path, Manifest], tmp_path: Path) -> None:
    manifest = world[1]
    rows = manifest.of_part("test")
    for row in rows[:20]:
        manifest.path_of(row).unlink()
    assert call(world, tmp_path, photos=100)["maps"]["photos"] == 4
    for row in rows[20:]:
        manifest.path_of(row).unlink()
    with pytest.raises(RunError, match="moved"):
        call(world, tmp_path)


def test_what_was_not_evaluated(world: tuple[Path, Manifest], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="evaluate"):
        call(world, tmp_path, part="validation")
    run, manifest = world
    with pytest.raises(RunError, match="--manifest"):
        call((run, replace(manifest, rows=manifest.rows[:50])), tmp_path)
    (run / "model.safetensors").write_text("trained anew")
    write_card(run, replace(read_card(run), files={"model.safetensors": sha256_of(run / "model.safetensors")}))
    with pytest.raises(RunError, match="other weights"):
        call(world, tmp_path)
    (run / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        call(world, tmp_path)


def test_maps_are_not_made_twice(
    world: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bintally.learn import examine as room

    found = call(world, tmp_path)

    def never(*_: object) -> dict[str, object]:
        raise AssertionError("the maps were there")

    monkeypatch.setattr(room, "_maps", never)
    again = call(world, tmp_path, answers=Answers(counts={}, changes={("a", "b"): True}))
    assert again["maps"] == found["maps"]
    assert again["limits"]["by_eye"]["changes"]["pairs"] == 1
    for other in ({"photos": 5}, {"share": 0.2}, {"seed": 3}):
        with pytest.raises(AssertionError, match="the maps were there"):
            call(world, tmp_path, **other)
    (tmp_path / "examination.json").write_text("{")
    with pytest.raises(AssertionError, match="the maps were there"):
        call(world, tmp_path)
