"""`bintally examine`, over a counter trained on drawn bins for a moment."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bintally.cli.app import app
from bintally.data.draw import DrawSettings, draw_store
from bintally.data.manifest import build_manifest, write_manifest
from bintally.data.split import SplitSettings, split_manifest
from bintally.errors import RunError, SettingsError, UsageError

QUICK = [*("--set", "examine.photos=10"), *("--set", "examine.resamples=100"), *("--set", "examine.eyes=4")]


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examine")
    draw_store(folder / "bins", DrawSettings(num_photos=120, size=64, seed=3), workers=1)
    split = split_manifest(build_manifest(folder / "bins", workers=1), SplitSettings(counts="0-5"))
    write_manifest(folder / "split.parquet", split)
    small = [*("--set", "pixels.size=32"), *("--set", "train.threads=1"), *("--set", "train.batch_size=16")]
    done = call("train", folder / "split.parquet", "--recipe", "demo", "--epochs", 1, "--to", folder / "run", *small)
    assert done.exit_code == 0, done.output
    few = ("--set", "evaluate.resamples=100", "--set", "evaluate.simulations=100")
    assert call("evaluate", folder / "run", *few).exit_code == 0
    return folder / "run"


def test_a_run_is_examined(run: Path, tmp_path: Path) -> None:
    done = call("examine", run, "--to", tmp_path, *QUICK)
    assert done.exit_code == 0, done.output
    assert f"page in {tmp_path / 'examination.html'}" in done.stdout
    assert "By elastic bands" in done.stdout
    found = json.loads((tmp_path / "examination.json").read_bytes())
    assert found["maps"]["photos"] == 10
    assert found["maps"]["agree"] >= 0.9  # other batches round otherwise: a tie may fall to the other side
    assert {"rim", "elastic bands"} == {row["name"] for row in found["maps"]["regions"]}
    assert [one["name"] for one in found["slices"]][:3] == ["true count", "blur", "elastic bands"]
    assert "To count by eye" in (tmp_path / "by-eye.html").read_text(encoding="utf-8")

    # A person fills in the form; the figures come to stand beside the counter's.
    form = (tmp_path / "by-eye.csv").read_text(encoding="utf-8").replace(",,\n", ",,2\n")
    (tmp_path / "mine.csv").write_text(form, encoding="utf-8")
    again = call("examine", run, "--to", tmp_path, "--by-eye", tmp_path / "mine.csv", "--json", *QUICK)
    judged = json.loads(again.stdout)["limits"]["by_eye"]
    assert judged["counted"]["photos"] == 4
    assert judged["changes"] is None


def test_another_part_lies_beside(run: Path) -> None:
    with pytest.raises(RunError, match="evaluate"):
        call("examine", run, "--part", "validation", *QUICK)
    few = ("--set", "evaluate.resamples=100", "--set", "evaluate.simulations=100")
    call("evaluate", run, "--part", "validation", *few)
    call("examine", run, "--part", "validation", *QUICK)
    found = json.loads((run / "examination-validation" / "examination.json").read_bytes())
    assert found["part"] == "validation"
    assert found["labels"]["parts"] == ["validation", "calibration", "test"]


def test_what_is_wrong_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"examine\.photo.*did you mean"):
        call("examine", run, "--set", "examine.photo=3")
    with pytest.raises(RunError, match="cannot read"):
        call("examine", run, "--by-eye", tmp_path / "none.csv")


def test_an_exported_model_needs_a_manifest(tmp_path: Path) -> None:
    from bintally.card import ModelCard, write_card
    from bintally.counts import CountRange
    from bintally.pixels import PixelSpec

    write_card(tmp_path, ModelCard(kind="exported", architecture="x", pixels=PixelSpec(), counts=CountRange()))
    with pytest.raises(UsageError, match="--manifest"):
        call("examine", tmp_path)
