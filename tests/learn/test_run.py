"""The run folder: what is kept, compared and removed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bintally.card import ModelCard, read_card
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, read_manifest
from bintally.errors import RunError
from bintally.learn import run as folder
from bintally.pixels import PixelSpec

SETTINGS = {"train": {"epochs": 3, "workers": 1}}


@pytest.fixture
def manifest(make_manifest: Callable[..., Manifest]) -> Manifest:
    return make_manifest(num=5)


def test_a_run_is_known_again_by_settings_and_photos(tmp_path: Path, manifest: Manifest) -> None:
    run = tmp_path / "runs" / "a"
    assert folder.check_run(run, SETTINGS, manifest.digest) is None
    folder.start_run(run, SETTINGS, manifest, {"device": "cpu"})
    folder.keep_manifest(run, manifest)
    found = folder.check_run(run, SETTINGS, manifest.digest)
    assert found is not None
    assert (found["status"], found["device"]) == ("running", "cpu")
    assert read_manifest(run / "split.parquet").digest == manifest.digest
    assert read_manifest(run / "split.parquet").root == manifest.root
    assert folder.check_run(run, {"train": {"epochs": 3, "workers": 8}}, manifest.digest) is not None
    with pytest.raises(RunError, match=r"train\.epochs was 3, now 4"):
        folder.check_run(run, {"train": {"epochs": 4}}, manifest.digest)
    with pytest.raises(RunError, match="another manifest"):
        folder.check_run(run, SETTINGS, "0" * 64)


def test_a_runs_manifest_follows_its_photos(tmp_path: Path, manifest: Manifest) -> None:
    folder.keep_manifest(tmp_path, manifest)
    kept = (tmp_path / "split.parquet").stat().st_mtime_ns
    folder.keep_manifest(tmp_path, manifest)
    assert (tmp_path / "split.parquet").stat().st_mtime_ns == kept
    folder.keep_manifest(tmp_path, replace(manifest, root=tmp_path / "elsewhere"))
    assert read_manifest(tmp_path / "split.parquet").root == tmp_path / "elsewhere"
    assert read_manifest(tmp_path / "split.parquet").digest == manifest.digest


def test_notes_are_added_and_finishing_removes_checkpoints(tmp_path: Path, manifest: Manifest) -> None:
    folder.start_run(tmp_path / "a", SETTINGS, manifest, {})
    (tmp_path / "a" / "checkpoints").mkdir()
    folder.note_run(tmp_path / "a", "stopped", why="asked")
    assert folder.read_run(tmp_path / "a")["why"] == "asked"
    folder.finish_run(tmp_path / "a", epochs=2)
    assert folder.read_run(tmp_path / "a")["status"] == "finished"
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_clearing_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path, manifest: Manifest) -> None:
    run = tmp_path / "a"
    run.mkdir()
    (run / "model.safetensors").write_text("somebody's")
    folder.clear_run(run)
    assert (run / "model.safetensors").exists()
    (run / "notes.txt").write_text("mine")
    folder.start_run(run, SETTINGS, manifest, {})
    folder.clear_run(run)
    assert [one.name for one in run.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "running"}'])
def test_a_damaged_run_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        folder.check_run(tmp_path, SETTINGS, "")
    with pytest.raises(RunError, match="no run of"):
        folder.read_run(tmp_path / "nowhere")


def test_what_a_killed_writer_left_does_not_block_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".run.json.abc.part").write_text("")
    assert folder.check_run(tmp_path, SETTINGS, "") is None
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(RunError, match="no run"):
        folder.check_run(tmp_path, SETTINGS, "")
    with pytest.raises(RunError, match="no run"):
        folder.check_run(tmp_path / "photo.jpg", SETTINGS, "")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make"):
        folder.start_run(tmp_path / "file" / "run", SETTINGS, manifest, {})


def test_the_best_weights_are_float32_with_a_card_that_fits(tmp_path: Path) -> None:
    card = ModelCard(architecture="x", pixels=PixelSpec(), counts=CountRange())
    state = {"w": torch.ones(2, 2, dtype=torch.bfloat16), "n": torch.tensor(3)}
    done = folder.save_best(tmp_path, state, {"model_type": "resnet"}, card)
    assert read_card(tmp_path) == done
    assert set(done.files) == {"model.safetensors", "backbone.json"}
    first = done.model_id
    assert folder.save_best(tmp_path, state, {}, card).model_id == first
    assert folder.save_best(tmp_path, {**state, "w": torch.zeros(1)}, {}, card).model_id != first


def test_history_rounds_nothing(tmp_path: Path) -> None:
    folder.write_history(tmp_path, [{"epoch": 1, "nll": 0.1 + 0.2}, {"epoch": 2, "nll": 1e-17}])
    assert (tmp_path / "history.csv").read_text() == "epoch,nll\n1,0.30000000000000004\n2,1e-17\n"


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(tmp_path: Path, manifest: Manifest) -> None:
    run = tmp_path / "run"
    folder.start_run(run, SETTINGS, manifest, {})
    now = {table: {**keys, "ema": 0.0} for table, keys in SETTINGS.items()}
    defaults = {"train": {"ema": 0.0}}
    assert folder.check_run(run, now, manifest.digest, defaults) is not None
    with pytest.raises(RunError, match=r"train\.ema was 0\.0, now 0\.9"):
        folder.check_run(run, {"train": {"ema": 0.9}}, manifest.digest, defaults)
