"""`bintally train` and `count`, as a person or a script calls them."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bintally.bins import BinPhoto
from bintally.cli.app import app
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, Part, Row, SplitInfo, write_manifest
from bintally.errors import BackboneError, MissingExtraError, ModelError, RunError, SettingsError, UsageError

OTHERS = ("split.parquet", "history.csv", "curves.png")
QUICK = (
    "--recipe",
    "demo",
    "--epochs",
    "1",
    "--set",
    "pixels.size=32",
    "--set",
    "train.threads=1",
    "--set",
    "train.batch_size=8",
)


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def bins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bins")
    (folder / "bin-images").mkdir()
    luck = np.random.default_rng(0)
    parts: tuple[Part, ...] = ("train", "train", "train", "validation", "test")
    rows = []
    for index in range(20):
        out = io.BytesIO()
        Image.fromarray(luck.integers(0, 256, (36, 36, 3), dtype=np.uint8)).save(out, "JPEG")
        name = f"bin-images/{index:05d}.jpg"
        (folder / name).write_bytes(out.getvalue())
        photo = BinPhoto(photo_id=f"{index:05d}", uri=name, sha256="0" * 64, width=36, height=36)
        row = Row(
            photo=photo,
            num_bytes=len(out.getvalue()),
            blur=1.0,
            look="0" * 16,
            record=None,
            expected_quantity=index % 4,
            label=index % 4,
            label_source="record",
            group=str(index),
            part=parts[index % 5],
        )
        rows.append(row)
    split = SplitInfo(counts=CountRange(), seed=0, fractions=(0.6, 0.2, 0.0, 0.2), shuffled=False)
    write_manifest(folder / "split.parquet", Manifest(root=folder, rows=tuple(rows), split=split))
    return folder


@pytest.fixture(scope="module")
def run(bins: Path) -> Path:
    done = call("train", bins, "--to", bins.parent / f"{bins.name}-run", *QUICK)
    assert done.exit_code == 0, done.output
    return bins.parent / f"{bins.name}-run"


def test_train_writes_a_run_and_says_what_comes_next(run: Path, bins: Path) -> None:
    names = {one.name for one in run.iterdir()}
    assert names == {
        "model.safetensors",
        "backbone.json",
        "model.json",
        "run.json",
        "split.parquet",
        "history.csv",
        "curves.png",
    }
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["train"]["epochs"], settings["pixels"]["size"], settings["model"]["backbone"]) == (1, 32, "tiny")
    again = call("train", bins / "split.parquet", "--to", run, *QUICK, "--json")
    told = json.loads(again.stdout)
    assert told["already"] is True
    assert told["model_id"] == json.loads((run / "model.json").read_text())["files"]["model.safetensors"][:12]
    person = call("train", bins, "--to", run, *QUICK)
    assert f"bintally evaluate {run}" in person.stdout
    assert "finished already" in person.stderr


def test_train_refuses_in_one_line(run: Path, bins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"train\.seed was 0, now 1"):
        call("train", bins, "--to", run, *QUICK, "--seed", 1)
    with pytest.raises(SettingsError, match="did you mean 'epochs'"):
        call("train", bins, "--to", tmp_path / "a", "--set", "train.epoch=1")
    with pytest.raises(SettingsError, match="no recipe 'sead'"):
        call("train", bins, "--to", tmp_path / "a", "--recipe", "sead")
    with pytest.raises(SettingsError, match="unknown log"):
        call("train", bins, "--to", tmp_path / "a", "--log", "wandb")
    with pytest.raises(BackboneError, match=r"config\.json"):
        call("train", bins, "--to", tmp_path / "a", "--backbone", tmp_path)
    assert not list(tmp_path.iterdir()) or not (tmp_path / "a" / "run.json").exists()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match="track"):
        call("train", bins, "--to", tmp_path / "a", "--log", "tensorboard")


def test_count_answers_for_photos_and_folders(run: Path, bins: Path) -> None:
    photo = bins / "bin-images" / "00003.jpg"
    done = call("count", photo, "--model", run, "--json")
    assert done.exit_code == 0
    (line,) = [json.loads(one) for one in done.stdout.splitlines()]
    assert line["photo"] == str(photo)
    assert sum(line["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert line["count"] == int(np.argmax(line["probabilities"]))
    assert line["level"] == 0.9
    low, high = (int(one) for one in line["range"])
    assert sum(line["probabilities"][low : high + 1]) >= 0.9 - 1e-4
    assert line["ms"] > 0
    every = call("count", bins, "--model", run, "--json", "--level", "0.5").stdout.splitlines()
    assert [json.loads(one)["photo"] for one in every] == sorted(map(str, (bins / "bin-images").iterdir()))


def test_the_model_may_come_from_the_environment(run: Path, bins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINTALLY_MODEL", str(run))
    done = call("count", bins / "bin-images" / "00003.jpg")
    assert done.exit_code == 0
    assert "00003.jpg" in done.stdout


def test_a_broken_photo_is_one_line_in_the_answer(run: Path, bins: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    good, gone = bins / "bin-images" / "00003.jpg", tmp_path / "gone.jpg"
    words = ("count", tmp_path / "broken.jpg", good, gone, "--model", run)
    done = call(*words, "--json")
    assert done.exit_code == 0
    lines = [json.loads(one) for one in done.stdout.splitlines()]
    assert [one["photo"] for one in lines] == [str(tmp_path / "broken.jpg"), str(good), str(gone)]
    assert ["unreadable" in one for one in lines] == [True, False, True]
    person = call(*words).stdout.splitlines()
    assert [one for one in person if "not counted" in one] == [
        f"{tmp_path / 'broken.jpg'}: not counted: not a JPEG or PNG photo",
        f"{gone}: not counted: no such file or directory",
    ]
    assert call("count", tmp_path / "broken.jpg", gone, "--model", run).exit_code == 1


def test_count_refuses_in_one_line(run: Path, bins: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.jpg"):
        call("count", tmp_path, "--model", run)
    with pytest.raises(ModelError, match="no model folder"):
        call("count", bins, "--model", tmp_path)
    assert call("count", bins, "--model", run, "--level", "0").exit_code == 2
