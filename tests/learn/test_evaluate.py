"""A run is scored on photos it never saw; its temperature comes from the calibration part alone."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from bintally import card as cards
from bintally import scores
from bintally.bins import BinPhoto, BinRecord, Item
from bintally.card import ModelCard, read_card, write_card
from bintally.cli.app import app
from bintally.counts import CountRange, Unreadable
from bintally.data.manifest import Manifest, Part, Row, SplitInfo, write_manifest
from bintally.errors import ManifestError, ModelError, RunError
from bintally.files import sha256_of
from bintally.learn.evaluate import EvaluateSettings, evaluate, evaluate_counter
from bintally.learn.model import ModelSettings, build_model
from bintally.learn.run import save_best
from bintally.pixels import PixelSpec
from bintally.progress import Silent
from bintally.resampling import bootstrap

QUICK = EvaluateSettings(resamples=200, simulations=100, worst=5)
ALL = CountRange(highest=10, open_ended=True)


@dataclass(frozen=True, kw_only=True)
class World:
    """A split of photos that are no pictures, a card, and a counter that reads the label off the bytes."""

    manifest: Manifest
    card: ModelCard
    run: Path

    def logits_of(self, photos: Sequence[bytes]) -> list[NDArray[np.float32] | Unreadable]:
        return [self._logits(photo) for photo in photos]

    def _logits(self, photo: bytes) -> NDArray[np.float32] | Unreadable:
        number, label = map(int, photo.split())
        if number % 50 == 49:
            return Unreadable(reason="damaged")
        luck = np.random.default_rng(number)
        counts = self.card.counts
        truth = min(label, counts.highest) - counts.lowest
        return (4 * (luck.normal(size=counts.num_classes) + 1.5 * np.eye(counts.num_classes)[truth])).astype(
            np.float32
        )

    def evaluate(self, settings: EvaluateSettings = QUICK, manifest: Manifest | None = None) -> dict[str, object]:
        return evaluate_counter(
            self.logits_of, self.card, self.run, self.manifest, manifest or self.manifest, settings, Silent()
        )


MakeWorld = Callable[..., World]


def rows_of(folder: Path, labels: Sequence[int | None], parts: Sequence[Part | None]) -> tuple[Row, ...]:
    rows = []
    for number, (label, part) in enumerate(zip(labels, parts, strict=True)):
        path = folder / "bin-images" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{number} {label or 0}".encode())
        item = Item(sku="s", asin="a", name=f"thing {number}", quantity=label or 0)
        photo = BinPhoto(photo_id=path.stem, uri=f"bin-images/{path.name}", sha256=sha256_of(path), width=8, height=8)
        rows.append(
            Row(
                photo=photo,
                num_bytes=path.stat().st_size,
                blur=1.0,
                look="0" * 16,
                record=BinRecord(bin_id=path.stem, items=(item,), expected_quantity=label or 0),
                expected_quantity=label,
                label=label,
                label_source="none" if label is None else "record",
                group=f"g{number // 2}",
                part=part,
            )
        )
    return tuple(rows)


@pytest.fixture
def make_world(tmp_path: Path) -> MakeWorld:
    def make(
        num: int = 400,
        *,
        counts: CountRange | None = None,
        most: int = 5,
        parts: tuple[Part, ...] = ("train", "validation", "calibration", "test"),
        shuffled: bool = False,
    ) -> World:
        counts = counts or CountRange()
        luck = np.random.default_rng(0)
        labels = luck.integers(counts.lowest, most + 1, num).tolist()
        # By group: photos 2n and 2n + 1 together; shuffled: next to each other in two parts.
        placed = [parts[(n if shuffled else n // 2) % len(parts)] for n in range(num)]
        info = SplitInfo(counts=counts, seed=0, fractions=(0.25, 0.25, 0.25, 0.25), shuffled=shuffled)
        manifest = Manifest(
            root=(tmp_path / "photos").resolve(), rows=rows_of(tmp_path / "photos", labels, placed), split=info
        )
        run = tmp_path / "run"
        card = ModelCard(
            architecture="fake",
            pixels=PixelSpec(size=8),
            counts=counts,
            open_mean=14.0 if counts.open_ended else None,
        )
        write_card(run, card)
        return World(manifest=write_manifest(run / "split.parquet", manifest), card=card, run=run)

    return make


def test_the_figures_are_those_of_the_test_part(make_world: MakeWorld) -> None:
    world = make_world()
    found = world.evaluate()
    rows = pq.read_table(world.run / "evaluation" / "predictions.parquet").to_pylist()
    test = [row for row in rows if row["part"] == "test"]
    assert {row["part"] for row in rows} == {"calibration", "test"}
    assert found["photos"]["scored"] == len(test) == found["scopes"][0]["num_photos"]
    for key, temperature in (("raw", 1.0), ("calibrated", found["calibration"]["temperature"])):
        said = scores.predictions_of(
            [row["logits"] for row in test], [row["label"] for row in test], CountRange(), temperature=temperature
        )
        figures = found["scopes"][0][key]["figures"]
        assert {name: one["value"] for name, one in figures.items()} == pytest.approx(scores.figures(said))
        ends = bootstrap(said, [row["group"] for row in test], resamples=200)
        assert figures["accuracy"] == pytest.approx(asdict(ends["accuracy"]))
        assert found["scopes"][0][key]["confusion"] == scores.confusion(said).tolist()
    assert np.array([row["probabilities"] for row in test]) == pytest.approx(said.probabilities)
    assert json.loads((world.run / "evaluation" / "evaluation.json").read_bytes()) == found


def test_the_temperature_is_fitted_on_the_calibration_part_alone(make_world: MakeWorld) -> None:
    world = make_world()
    found = world.evaluate()
    temperature = found["calibration"]["temperature"]
    assert temperature > 2  # the fake's logits are four times too large
    block = found["scopes"][0]
    assert block["calibrated"]["figures"]["nll"]["value"] < block["raw"]["figures"]["nll"]["value"]
    assert block["calibrated"]["figures"]["accuracy"] == block["raw"]["figures"]["accuracy"]
    errors = [block[key]["calibration_error"]["width"] for key in ("raw", "calibrated")]
    assert errors[0]["error"] > errors[0]["chance_high"]
    assert errors[1]["error"] < errors[0]["error"]
    # Other test photos, the same temperature.
    fewer = tuple(
        replace(row, part=None) if row.part == "test" and row.label == 2 else row for row in world.manifest.rows
    )
    other = replace(world, manifest=replace(world.manifest, rows=fewer)).evaluate()
    assert other["calibration"] == found["calibration"]
    assert other["photos"]["scored"] < found["photos"]["scored"]


def test_the_card_gets_temperature_and_figures(make_world: MakeWorld) -> None:
    world = make_world()
    found = world.evaluate()
    card = read_card(world.run)
    assert card.calibration is not None
    assert asdict(card.calibration) == found["calibration"]
    assert card.metrics["test"]["accuracy"] == pytest.approx(
        found["scopes"][0]["calibrated"]["figures"]["accuracy"]["value"], abs=1e-4
    )
    assert card.metrics["test"]["shuffled_split"] is False


def test_a_counter_of_all_bins_is_scored_on_few_twice(make_world: MakeWorld) -> None:
    found = make_world(counts=ALL, most=20).evaluate()
    own, few, told = found["scopes"]
    assert [one["counts"] for one in found["scopes"]] == ["0-10+", "0-5", "0-5"]
    assert own["num_photos"] > few["num_photos"] == told["num_photos"] > 0
    assert len(few["raw"]["confusion"]) == 11
    assert len(told["raw"]["confusion"]) == 6
    accuracies = [one["calibrated"]["figures"]["accuracy"]["value"] for one in (few, told)]
    assert accuracies[1] > accuracies[0]
    assert told["gain"]["accuracy"]["low"] > 0
    assert found["model"]["names"][-1] == "10+"


def test_a_counter_from_one_to_five(make_world: MakeWorld) -> None:
    world = make_world(counts=CountRange(lowest=1))
    found = world.evaluate()
    assert [one["counts"] for one in found["scopes"]] == ["1-5"]
    rows = pq.read_table(world.run / "evaluation" / "predictions.parquet").to_pylist()
    assert {row["probabilities"][0] for row in rows} == {0.0}
    assert found["scopes"][0]["blind"]["majority"] >= 1


def test_the_counter_that_never_looks_knows_the_training_labels_alone(make_world: MakeWorld) -> None:
    world = make_world()
    found = world.evaluate()
    blind = found["scopes"][0]["blind"]
    labels = [row.label for row in world.manifest.of_part("train")]
    assert blind["majority"] == np.bincount(labels).argmax()
    rows = pq.read_table(world.run / "evaluation" / "predictions.parquet").to_pylist()
    share = np.mean([row["label"] == blind["majority"] for row in rows if row["part"] == "test"])
    assert blind["figures"]["accuracy"] == pytest.approx(share)


def test_what_cannot_be_read_is_listed_and_stops_nothing(make_world: MakeWorld) -> None:
    world = make_world(parts=("test",))
    (world.manifest.path_of(world.manifest.rows[3])).write_bytes(b"3 5 changed")
    (world.manifest.path_of(world.manifest.rows[4])).unlink()
    found = world.evaluate()
    bad = {one["photo_id"]: one["reason"] for one in found["photos"]["unreadable"]}
    assert bad["00003"] == "the file differs from the manifest"
    assert bad["00004"].startswith("cannot read")
    assert bad["00049"] == "damaged"
    assert len(bad) == 2 + 8
    assert found["photos"]["scored"] == 400 - 10
    assert any("10 photos could not be read" in one for one in found["warnings"])


def test_without_a_calibration_part_there_is_no_temperature(make_world: MakeWorld) -> None:
    world = make_world(parts=("train", "test"))
    found = world.evaluate()
    assert found["calibration"] is None
    assert found["scopes"][0]["calibrated"] is None
    assert read_card(world.run).calibration is None
    assert any("no temperature was fitted" in one for one in found["warnings"])


@pytest.mark.parametrize("num", [4, 8, 30])
def test_few_photos_warn_and_do_not_crash(make_world: MakeWorld, num: int) -> None:
    found = make_world(num, parts=("test", "calibration", "train")).evaluate()
    assert any("are few" in one for one in found["warnings"])
    assert any("rests on" in one for one in found["warnings"])


def test_a_shuffled_split_is_said_to_flatter(make_world: MakeWorld) -> None:
    found = make_world(shuffled=True).evaluate()
    assert found["photos"]["sibling_in_training"] == 0  # train and test are never neighbours here …
    found = make_world(shuffled=True, parts=("train", "test")).evaluate()
    assert found["photos"]["sibling_in_training"] == found["photos"]["scored"]  # … and here always
    assert any("shuffled" in one for one in found["warnings"])
    assert any("have a sibling" in one for one in found["warnings"])


def test_photos_that_were_trained_on_are_counted(make_world: MakeWorld) -> None:
    world = make_world()
    turned: dict[Part | None, Part] = {"train": "test", "test": "train"}
    rows = tuple(replace(row, part=turned.get(row.part, row.part)) for row in world.manifest.rows)
    other = write_manifest(world.run / "other.parquet", replace(world.manifest, rows=rows))
    found = world.evaluate(manifest=other)
    assert found["photos"]["trained_on"] == found["photos"]["scored"]
    assert any("were trained on" in one for one in found["warnings"])


def test_every_look_at_the_test_part_is_kept(make_world: MakeWorld) -> None:
    world = make_world()
    assert [len(world.evaluate()["looks"]) for _ in range(3)] == [1, 2, 3]
    (world.run / "evaluation" / "evaluation.json").write_text("{", encoding="utf-8")
    assert len(world.evaluate()["looks"]) == 2


@pytest.mark.parametrize("part", ["validation", "calibration", "train"])
def test_another_part_has_a_folder_of_its_own(make_world: MakeWorld, part: Part) -> None:
    world = make_world()
    found = world.evaluate(replace(QUICK, part=part))
    assert found["part"] == part
    assert any(f"{part} part" in one for one in found["warnings"])
    assert (world.run / f"evaluation-{part}" / "evaluation.json").is_file()
    assert not (world.run / "evaluation").exists()


def test_the_worst_mistakes_come_first(make_world: MakeWorld) -> None:
    worst = make_world().evaluate()["worst"]
    given = [one["probability_of_label"] for one in worst]
    assert len(worst) == 5
    assert given == sorted(given)
    for one in worst:
        assert one["likeliest"] != one["label"]
        assert one["items"] == [{"name": f"thing {int(one['photo_id'])}", "quantity": one["label"]}]
        assert sum(one["probabilities"]) == pytest.approx(1)


def test_right_answers_are_shown_of_every_count_in_turn(make_world: MakeWorld) -> None:
    found = make_world().evaluate(replace(QUICK, right=8))
    right = found["right"]
    confusion = found["scopes"][0]["raw"]["confusion"]
    counts = [count for count in range(6) if confusion[count][count]]  # with a right answer at all
    assert [one["label"] for one in right[: len(counts)]] == counts
    assert all(one["right"] and one["likeliest"] == one["label"] for one in right)
    again = [one for one in right if one["label"] == counts[0]]
    assert [one["probability"] for one in again] == sorted((one["probability"] for one in again), reverse=True)


def test_a_sample_is_picked_by_chance_alone(make_world: MakeWorld) -> None:
    world = make_world()
    first = world.evaluate(replace(QUICK, sample=20))["sample"]
    assert len({one["photo_id"] for one in first}) == 20
    assert {one["right"] for one in first} == {True, False}
    fewer = world.evaluate(replace(QUICK, sample=5))["sample"]
    assert fewer == first[:5]
    assert world.evaluate(replace(QUICK, sample=5, seed=1))["sample"] != fewer
    assert [one["photo_id"] for one in first] != sorted(one["photo_id"] for one in first)


def test_the_same_seed_gives_the_same_figures(make_world: MakeWorld) -> None:
    world = make_world()
    first, second = (world.evaluate() for _ in range(2))
    assert first["scopes"] == second["scopes"]
    assert world.evaluate(replace(QUICK, seed=1))["scopes"] != first["scopes"]


def test_nothing_to_score_is_one_line(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(parts=("train", "calibration"))
    with pytest.raises(RunError, match="the test part has no photo to score: 0 photos"):
        world.evaluate()
    with pytest.raises(RunError, match="is not split"):
        world.evaluate(manifest=Manifest(root=tmp_path, rows=()))


def test_photos_outside_the_range_or_without_label_are_left_out(make_world: MakeWorld) -> None:
    world = make_world(counts=ALL, most=20)
    narrow = replace(world, card=replace(world.card, counts=CountRange(), open_mean=None))
    rows = tuple(replace(row, label=None) if row.label == 0 else row for row in world.manifest.rows)
    found = replace(narrow, manifest=replace(world.manifest, rows=rows)).evaluate()
    test = [row.label for row in rows if row.part == "test"]
    assert found["photos"]["unlabelled"] == test.count(None)
    assert found["photos"]["out_of_range"] == sum(label is not None and label > 5 for label in test)
    assert [one["counts"] for one in found["scopes"]] == ["0-5"]


def test_an_exported_model_keeps_its_card(make_world: MakeWorld) -> None:
    world = make_world()
    given = replace(world.card, kind="exported", calibration=cards.Calibration(temperature=3.0, num_photos=9))
    write_card(world.run, given)
    found = evaluate_counter(world.logits_of, given, world.run, None, world.manifest, QUICK, Silent())
    assert found["calibration"] == {"temperature": 3.0, "num_photos": 9}
    assert read_card(world.run) == given


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of real files, its network untrained, over photos that are pictures."""
    from PIL import Image

    rows = list(
        rows_of(tmp_path / "photos", [n % 6 for n in range(48)], [("test", "calibration")[n % 2] for n in range(48)])
    )
    for n, row in enumerate(rows):
        path = tmp_path / "photos" / row.photo.uri
        Image.new("RGB", (16, 16), (5 * n, 0, 0)).save(path)
        rows[n] = replace(row, photo=replace(row.photo, sha256=sha256_of(path)))
    info = SplitInfo(counts=CountRange(), seed=0, fractions=(0.25, 0.25, 0.25, 0.25), shuffled=False)
    folder = tmp_path / "tiny"
    write_manifest(folder / "split.parquet", Manifest(root=tmp_path / "photos", rows=tuple(rows), split=info))
    torch.manual_seed(0)
    model = build_model(ModelSettings(backbone="tiny"), CountRange())
    card = ModelCard(architecture="tiny", pixels=PixelSpec(size=32), counts=CountRange())
    save_best(folder, model.state_dict(), model.backbone.config.to_dict(), card)
    return folder


def test_a_run_by_the_verb(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINTALLY_EVALUATE_RESAMPLES", "200")
    done = CliRunner().invoke(app, ["evaluate", str(run)])
    assert done.exit_code == 0, done.output
    assert "RMSE, likeliest count" in done.stdout
    assert "24 photos of test, counts 0-5" in done.stdout
    assert "never looks" in (run / "evaluation" / "evaluation.html").read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["evaluate", str(run), "--json", "--page", str(run / "page.html")])
    found = json.loads(done.stdout)
    assert len(found["looks"]) == 2
    assert (run / "page.html").is_file()
    assert read_card(run).calibration is not None
    assert evaluate(run, None, QUICK, Silent())["scopes"][0]["num_photos"] == 24


def test_what_is_no_run(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        evaluate(tmp_path / "none", None, QUICK, Silent())
    (run / "split.parquet").unlink()
    with pytest.raises(ManifestError, match="there is no manifest"):
        evaluate(run, None, QUICK, Silent())
