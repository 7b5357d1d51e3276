"""`bintally manifest`, `summary` and `split`, as a person or a script calls them."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bintally.cli.app import app
from bintally.data.manifest import read_manifest
from bintally.errors import ManifestError, SettingsError, SplitError, UsageError


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def bins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bins")
    rng = np.random.default_rng(0)
    for sub in ("bin-images", "metadata"):
        (folder / sub).mkdir()
    for place in range(60):
        name = f"{1000 + place + place // 2:05d}"  # pairs of siblings
        out = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize((48, 48)).save(out, "JPEG")
        (folder / "bin-images" / f"{name}.jpg").write_bytes(out.getvalue())
        quantity = 1 + place % 3
        items = {f"P{place // 2}": {"asin": f"P{place // 2}", "name": "Mug", "quantity": quantity}}
        body = {"BIN_FCSKU_DATA": items, "EXPECTED_QUANTITY": quantity}
        (folder / "metadata" / f"{name}.json").write_text(json.dumps(body))
    (folder / "bin-images" / "00009.jpg").write_bytes(b"broken")
    return folder


def test_the_way_through(bins: Path, tmp_path: Path) -> None:
    before = sorted(bins.rglob("*"))
    made = json.loads(run("manifest", bins, "--to", tmp_path / "m.parquet", "--json"))
    assert made["photos"] == 60
    assert [one["photo_id"] for one in made["problems"]] == ["00009"]
    assert made["digest"] == read_manifest(tmp_path / "m.parquet").digest

    report = json.loads(
        run(
            "split",
            tmp_path / "m.parquet",
            "--to",
            tmp_path / "s.parquet",
            "--counts",
            "1-3",
            "--seed",
            "3",
            "--json",
        )
    )
    done = read_manifest(tmp_path / "s.parquet")
    assert done.digest == report["digest"]
    assert done.split is not None
    assert (done.split.seed, str(done.split.counts)) == (3, "1-3")
    assert report["kept"] == 60
    assert report["leaking_test_photos"] == 0
    assert report["groups"]["lengths"] == {"2": 30}

    found = json.loads(run("summary", tmp_path / "s.parquet", "--json", "--page", tmp_path / "page.html"))
    assert found["split"]["kept"] == 60
    assert "<h1>" in (tmp_path / "page.html").read_text()
    assert sorted(bins.rglob("*")) == before, "a folder is changed by `manifest` without --to alone"


def test_a_folder_without_a_manifest_is_looked_at_on_the_way(bins: Path, tmp_path: Path) -> None:
    text = run("split", bins, "--to", tmp_path / "s.parquet", "--counts", "1-3")
    assert "0 test photos (0.0 %) have a sibling in train" in text
    assert not (bins / "manifest.parquet").exists()
    assert "60 photos in" in run("summary", bins)
    assert read_manifest(tmp_path / "s.parquet").root == bins


def test_shuffled_says_what_leaks(bins: Path, tmp_path: Path) -> None:
    words = ["split", bins, "--to", tmp_path / "s.parquet", "--counts", "1-3", "--shuffled"]
    assert json.loads(run(*words, "--json"))["leaking_test_photos"] > 0
    assert "by photo (shuffled)" in run(*words)


def test_fractions_and_other_settings(bins: Path, tmp_path: Path) -> None:
    words = ["split", bins, "--to", tmp_path / "s.parquet", "--counts", "1-3"]
    report = json.loads(run(*words, "--fractions", "80/0/0/20", "--set", "split.seed=5", "--json"))
    assert report["seed"] == 5
    assert report["parts"]["validation"]["photos"] == 0
    assert report["parts"]["train"]["share"] == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--counts", "0-5"], SplitError),
        (["--counts", "many"], SettingsError),
        (["--fractions", "60/40"], UsageError),
        (["--fractions", "a/b/c/d"], SettingsError),
        (["--seed", "-1"], SettingsError),
        (["--set", "split.seeds=1"], SettingsError),
    ],
)
def test_what_cannot_be_split_so(bins: Path, tmp_path: Path, words: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        run("split", bins, "--to", tmp_path / "s.parquet", *words)
    assert not (tmp_path / "s.parquet").exists()


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        run("summary", tmp_path)
    with pytest.raises(ManifestError):
        run("summary", tmp_path / "none.parquet")


def test_a_failure_is_one_line(bins: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bintally",
            "split",
            str(bins),
            "--to",
            str(tmp_path / "s.parquet"),
            "--counts",
            "0-5",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: no photo has the count 0, 4, 5: fetch some, or leave it out"
    )
    assert "Traceback" not in done.stderr
