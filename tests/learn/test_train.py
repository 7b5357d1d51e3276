"""Training: learns, chooses the best epoch, goes on after any death to the same bits, refuses what cannot work."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bintally.card import read_card
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, read_manifest
from bintally.errors import BackboneError, ManifestError, RunError, RunStoppedError, SettingsError
from bintally.learn.checkpoint import same_bits
from bintally.learn.listen import Listener
from bintally.learn.model import load_run_model
from bintally.learn.recipe import Recipe, read_recipe
from bintally.learn.run import read_run
from bintally.learn.stopping import Stop
from bintally.learn.train import train

MakeManifest = Callable[..., Manifest]
Tiny = Callable[..., Recipe]


class Ends(Listener):
    """Ends a training at a step, as a kill would: nothing is put away."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        if step == self.step:
            raise KeyboardInterrupt


class Signals(Ends):
    """Notes SIGTERM at a step, as the handler would. Test runners move tests to threads where no signal is caught;
    real signals are sent to processes of their own, below and in test_stopping.py.
    """

    def __init__(self, step: int, stop: Stop) -> None:
        super().__init__(step)
        self.stop = stop

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        if step == self.step:
            self.stop.signal = signal.SIGTERM


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_a_training_leaves_a_run_that_loads_and_a_second_call_does_nothing(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest()
    result = train(manifest, tmp_path / "run", tiny(epochs=2))
    assert not result.already
    assert result.epochs == 2
    model, card = load_run_model(tmp_path / "run")
    assert not model.training
    assert card.manifest_digest == manifest.digest
    assert card.counts == CountRange()
    assert card.pixels.size == 32
    assert card.metrics["best_epoch"] == result.best_epoch
    assert len(history(tmp_path / "run")) == 2
    best = min(history(tmp_path / "run"), key=lambda row: float(row["validation_nll"]))
    assert int(best["epoch"]) == result.best_epoch
    assert read_run(tmp_path / "run")["status"] == "finished"
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert read_manifest(tmp_path / "run" / "split.parquet").path_of(manifest.rows[0]).is_file()
    before = (tmp_path / "run" / "model.json").stat().st_mtime_ns
    again = train(manifest, tmp_path / "run", tiny(epochs=2))
    assert again.already
    assert again.card == result.card
    assert (tmp_path / "run" / "model.json").stat().st_mtime_ns == before


def test_a_signal_is_answered_with_a_checkpoint(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, recipe = make_manifest(), tiny(epochs=2)
    train(manifest, tmp_path / "whole", recipe)
    stop = Stop()
    with monkeypatch.context() as patch:
        patch.setattr("bintally.learn.train.stop_signals", lambda: contextlib.nullcontext(stop))
        with pytest.raises(RunStoppedError, match="goes on") as caught:
            train(manifest, tmp_path / "stopped", recipe, listeners=[Signals(2, stop)])
    assert caught.value.exit_code == 143
    assert read_run(tmp_path / "stopped")["status"] == "stopped"
    told: list[int] = []

    class Counts(Listener):
        def on_step(self, step: int, epoch: int, loss: float) -> None:
            told.append(step)

    train(manifest, tmp_path / "stopped", recipe, listeners=[Counts()])
    assert told[0] in {3, 4}  # the signal is seen at the end of its step or of the next
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert same_bits(whole, stopped)


def test_two_seeds_differ_and_one_seed_does_not(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    manifest = make_manifest(num=20)
    ids = [
        train(manifest, tmp_path / str(index), tiny(epochs=1, seed=seed)).card.model_id
        for index, seed in enumerate((0, 0, 1))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_an_open_last_class_keeps_its_mean(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    manifest = make_manifest(counts=CountRange(lowest=0, highest=3, open_ended=True))
    card = train(manifest, tmp_path / "run", tiny(epochs=1)).card
    labels = [row.label for row in manifest.of_part("train") if row.label is not None and row.label >= 3]
    assert card.open_mean == pytest.approx(sum(labels) / len(labels))


def test_a_folder_with_something_else_in_it_is_left_alone(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=10)
    for restart in (False, True):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "letter.txt").write_text("dear")
        if not restart:
            with pytest.raises(RunError, match="no run"):
                train(manifest, tmp_path / "mine", tiny(epochs=1), restart=restart)
        else:
            train(manifest, tmp_path / "mine", tiny(epochs=1), restart=True)
        assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_other_settings_or_photos_on_a_run_are_an_error_that_names_them(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=20)
    train(manifest, tmp_path / "run", tiny(epochs=1))
    with pytest.raises(RunError, match=r"train\.epochs was 1, now 2.*--to.*--restart"):
        train(manifest, tmp_path / "run", tiny(epochs=2))
    with pytest.raises(RunError, match="another manifest"):
        train(make_manifest(num=25), tmp_path / "run", tiny(epochs=1))
    assert train(make_manifest(num=20), tmp_path / "run", tiny(epochs=1, cache_mb=0, workers=1)).already
    assert train(manifest, tmp_path / "run", tiny(epochs=2), restart=True).epochs == 2


def test_a_damaged_checkpoint_is_named(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    manifest, recipe = make_manifest(num=20), tiny(epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "run", recipe, listeners=[Ends(2)])
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "run" / "checkpoints" / "last.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(RunError, match=r"no checkpoint.*--restart"):
        train(manifest, tmp_path / "run", recipe)


def test_an_empty_class_is_told_and_trained_around(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    told: list[str] = []

    class Notes:
        def begin(self, task: str, total: int | None = None) -> None: ...
        def advance(self, steps: int = 1, note: str = "") -> None: ...
        def end(self) -> None: ...
        def message(self, text: str) -> None:
            told.append(text)

    manifest = make_manifest(counts=CountRange(lowest=0, highest=7))
    recipe = tiny(epochs=1, sampling="balanced", class_weights="balanced")
    train(manifest, tmp_path / "run", recipe, progress=Notes())
    assert any("no training photo holds 7" in text for text in told)


def test_manifests_that_nothing_can_be_learnt_from(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    for manifest, message in (
        (make_manifest(num=10, split=False), "bintally split"),
        (make_manifest(num=1), "too few"),
        (make_manifest(num=3), "too few"),
        (make_manifest(num=20, most=0), "every training photo holds 0"),
    ):
        with pytest.raises(ManifestError, match=message):
            train(manifest, tmp_path / "run", tiny(epochs=1))
    assert not (tmp_path / "run").exists()


def test_an_unknown_backbone_leaves_a_folder_that_the_next_try_may_use(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=10)
    wrong = read_recipe("seed", {"model": {"backbone": str(tmp_path / "no-such-snapshot")}}, environ={})
    with pytest.raises(BackboneError, match="no-such-snapshot"):
        train(manifest, tmp_path / "run", wrong)
    assert train(manifest, tmp_path / "run", tiny(epochs=1)).epochs == 1


def test_a_photo_that_is_gone_is_named(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    manifest = make_manifest(num=20)
    gone = manifest.path_of(manifest.of_part("train")[0])
    gone.unlink()
    with pytest.raises(RunError, match=gone.name):
        train(manifest, tmp_path / "run", tiny(epochs=1))


def test_a_batch_that_processes_cannot_share(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="shared by 3"):
        train(make_manifest(num=10), tmp_path / "run", tiny(processes=3))


def command(manifest: Path, run: Path, *more: str) -> list[str]:
    settings = ["pixels.size=32", "train.batch_size=8", "train.precision=32-true", "train.threads=1"]
    words = [word for one in settings for word in ("--set", one)]
    verb = [sys.executable, "-m", "bintally", "train", str(manifest), "--to", str(run), "--recipe", "demo"]
    return [*verb, *words, "--set", "train.checkpoint_every_steps=2", *more]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "BINTALLY_PLAIN": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_squares: MakeManifest) -> Path:
    """A folder with photos, their split, and a run of the command below that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    make_squares(folder / "photos", num=60)
    verb = command(folder / "photos" / "split.parquet", folder / "run", "--epochs", "12")
    subprocess.run(verb, check=True, env=environment(), capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_same_command_goes_on_after_a_kill(
    whole: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    verb = command(whole / "photos" / "split.parquet", tmp_path / "killed", "--epochs", "12")
    started = subprocess.Popen(verb, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "killed" / "checkpoints" / "last.safetensors").exists():
            assert time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.002)
        started.send_signal(number)
        _, told = started.communicate(timeout=120)
    finally:
        started.kill()
    assert started.returncode == code
    if code > 0:
        assert b"goes on" in told
        assert b"Traceback" not in told
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] != "finished"
    subprocess.run(verb, check=True, env=environment(), capture_output=True)
    runs = (whole / "run", tmp_path / "killed")
    assert same_bits(*(load_file(run / "model.safetensors") for run in runs))
    assert len({read_card(run).model_id for run in runs}) == 1


@pytest.mark.slow
def test_two_processes_train_as_one_does(make_manifest: MakeManifest, tmp_path: Path) -> None:
    make_manifest(num=60)
    split = tmp_path / "photos" / "split.parquet"
    for name, processes in (("one", 1), ("two", 2)):
        verb = command(split, tmp_path / name, "--epochs", "2", "--set", f"train.processes={processes}", "--json")
        verb += ["--set", "train.refit=true"]
        done = subprocess.run(verb, check=False, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["epochs"] == 2  # one process speaks
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.isfinite(value).all() for value in two.values())
    first_one, first_two = (float(history(tmp_path / name)[0]["train_nll"]) for name in ("one", "two"))
    assert all(read_card(tmp_path / name).is_refit for name in ("one", "two"))
    assert first_two == pytest.approx(first_one, rel=0.25)  # the same batches; batch norm sees half of each
    assert one.keys() == two.keys()
