"""`bintally profile`, as a person or a script calls it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bintally.cli.app import app
from bintally.errors import SettingsError
from tests.learn.conftest import squares_manifest

QUICK = [
    *("--steps", "3", "--set", "profile.warmup=1", "--set", "profile.try_steps=3", "--set", "profile.traced=0"),
    *("--set", "train.batch_size=8", "--set", "pixels.size=32", "--set", "train.threads=1"),
]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    squares_manifest(folder)
    return folder


def run(*words: object) -> str:
    done = CliRunner().invoke(app, ["profile", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_json_and_page(split: Path, tmp_path: Path) -> None:
    found = json.loads(run("demo", split / "split.parquet", "--to", tmp_path / "out", "--no-try", "--json", *QUICK))
    assert found["measured_steps"] == 3
    assert all(one["verdict"] == "not tried" for one in found["advice"])
    text = (tmp_path / "out" / "profile.html").read_text(encoding="utf-8")
    assert "Profile: demo" in text
    assert found["headline"] in text.replace("&#39;", "'")


def test_a_person_reads_phases_and_what_was_tried(split: Path, tmp_path: Path) -> None:
    text = run("demo", split, "--to", tmp_path / "out", *QUICK)  # batches of 8 are small: a lever to try
    assert text.startswith("Change")
    assert "waiting for data" in text
    assert "batch size: " in text
    assert "measured: " in text


def test_a_setting_that_is_none(split: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown setting profile\.stepps"):
        run("demo", split, "--to", tmp_path / "out", "--set", "profile.stepps=3")
    assert not (tmp_path / "out").exists()
