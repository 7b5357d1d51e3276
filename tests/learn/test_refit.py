"""Training again on both parts: what is learnt from, for how long, and what is said of it; it goes on after any stop."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bintally.card import read_card
from bintally.data.manifest import Manifest, read_manifest, write_manifest
from bintally.errors import RunError, RunStoppedError, SettingsError
from bintally.learn.checkpoint import same_bits
from bintally.learn.ensemble import EnsembleSettings, unite
from bintally.learn.evaluate import EvaluateSettings, evaluate
from bintally.learn.listen import Listener
from bintally.learn.model import load_run_model
from bintally.learn.recipe import Recipe
from bintally.learn.refit import Refit, joined
from bintally.learn.run import read_run
from bintally.learn.soup import SoupSettings, cook
from bintally.learn.stopping import Stop
from bintally.learn.teacher import TeacherSettings
from bintally.learn.train import train
from bintally.progress import Silent

MakeManifest = Callable[..., Manifest]
Tiny = Callable[..., Recipe]


class Dies(Silent):
    """A progress that ends the training when its message holds a text, as a kill would."""

    def __init__(self, text: str) -> None:
        self._text = text

    def message(self, text: str) -> None:
        if self._text in text:
            raise KeyboardInterrupt


def weights(run: Path) -> dict[str, object]:
    return dict(load_file(run / "model.safetensors"))


def test_it_is_what_a_training_on_the_joined_parts_ends_with(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=60)
    recipe = tiny(epochs=3, ema=0.9, schedule="cosine")
    first = train(manifest, tmp_path / "first", recipe)
    refit = train(manifest, tmp_path / "run", replace(recipe, train=replace(recipe.train, refit=True)))
    assert (refit.best_epoch, refit.epochs) == (first.best_epoch, first.epochs)
    assert refit.seconds > 0
    assert refit.card.is_refit
    assert not first.card.is_refit
    assert refit.card.validation == first.card.validation == first.card.metrics["validation"]
    assert "validation" not in refit.card.metrics
    assert "learnt from the validation part as well" in refit.card.notes[0]

    # The same by hand: a manifest of the joined parts with the old validation photos as another part's name.
    both = joined(manifest)
    assert read_manifest(tmp_path / "run" / "split.parquet").rows == both.rows
    assert refit.card.manifest_digest == both.digest != first.card.manifest_digest
    assert len(both.of_part("train")) == 48
    assert not both.of_part("validation")
    rows = tuple(replace(row, part="validation") if row.part == "calibration" else row for row in both.rows)
    other = write_manifest(tmp_path / "other.parquet", replace(both, rows=rows))
    seen: list[dict[str, object]] = []

    class Looks(Listener):
        def on_epoch(self, *told: object) -> None:
            seen.append(load_file(tmp_path / "other" / "checkpoints" / "last.safetensors"))

    train(other, tmp_path / "other", recipe, listeners=[Looks()])
    averaged = {name.removeprefix("average/"): value for name, value in seen[first.best_epoch - 1].items()}
    found = weights(tmp_path / "run")
    same = [name for name, value in found.items() if name in averaged and averaged[name].equal(value)]  # type: ignore[attr-defined]
    assert len(same) == len(found)

    model, card = load_run_model(tmp_path / "run")
    assert card.model_id == refit.card.model_id
    assert not model.training
    assert not (tmp_path / "run" / "checkpoints").exists()
    about = read_run(tmp_path / "run")
    assert about["status"] == "finished"
    assert about["photos"] == {"train": 36, "validation": 12}
    assert (about["refit"]["epochs"], about["refit"]["photos"]) == (first.best_epoch, 48)
    assert train(manifest, tmp_path / "run", replace(recipe, train=replace(recipe.train, refit=True))).already


def test_a_finished_run_goes_on_to_its_refit_and_never_back(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=30)
    train(manifest, tmp_path / "whole", tiny(refit=True))
    train(manifest, tmp_path / "run", tiny())
    before = weights(tmp_path / "run")
    with pytest.raises(RunError, match=r"train\.epochs was 2, now 3"):
        train(manifest, tmp_path / "run", tiny(epochs=3, refit=True))
    steps: list[int] = []

    class Counts(Listener):
        def on_step(self, step: int, epoch: int, loss: float) -> None:
            steps.append(step)

    result = train(manifest, tmp_path / "run", tiny(refit=True), listeners=[Counts()])
    assert not steps  # the first training is over, and it is what listeners are told of
    assert not result.already
    assert same_bits(load_file(tmp_path / "run/model.safetensors"), load_file(tmp_path / "whole/model.safetensors"))
    assert not same_bits(before, weights(tmp_path / "run"))  # type: ignore[arg-type]
    assert read_run(tmp_path / "run")["settings"]["train"]["refit"] is True
    with pytest.raises(RunError, match=r"train\.refit was True, now False"):
        train(manifest, tmp_path / "run", tiny())


def test_a_finished_run_that_is_killed_on_its_way_to_the_refit_has_lost_nothing(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(num=30)
    train(manifest, tmp_path / "run", tiny())
    first = weights(tmp_path / "run")
    evaluate(tmp_path / "run", None, EvaluateSettings(part="validation"), Silent())

    def dies(manifest: Manifest) -> Manifest:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bintally.learn.train.joined", dies)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "run", tiny(refit=True))
    assert same_bits(first, weights(tmp_path / "run"))  # type: ignore[arg-type]
    assert (tmp_path / "run" / "evaluation-validation").exists()

    class Never(Listener):
        def on_step(self, step: int, epoch: int, loss: float) -> None:
            raise AssertionError("the first training is over")

    assert train(manifest, tmp_path / "run", tiny(refit=True), listeners=[Never()]).card.is_refit
    assert not (tmp_path / "run" / "evaluation-validation").exists()  # it was of the model before


def test_a_second_training_that_cannot_begin_says_so_in_the_run(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest, recipe = make_manifest(num=30), tiny(refit=True)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "run", recipe, progress=Dies("on both parts, epoch 1"))
    path = tmp_path / "run" / "checkpoints" / "refit.safetensors"
    good = path.read_bytes()
    path.write_bytes(b"junk")
    with pytest.raises(RunError, match="no checkpoint that can be read"):
        train(manifest, tmp_path / "run", recipe)
    assert read_run(tmp_path / "run")["status"] == "failed"
    path.write_bytes(good)
    assert train(manifest, tmp_path / "run", recipe).card.is_refit


def test_weights_that_are_not_finite_take_no_models_place(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(num=30)

    def spoils(self: Refit) -> None:
        with torch.no_grad():
            self.model.head.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]

    monkeypatch.setattr(Refit, "_same_buffers", spoils)
    with pytest.raises(RunError, match="weights are not finite"):
        train(manifest, tmp_path / "run", tiny(epochs=1, refit=True))
    assert read_run(tmp_path / "run")["status"] == "failed"
    assert not read_card(tmp_path / "run").is_refit


def test_it_goes_on_to_the_same_bits_from_wherever_it_was_killed(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(num=30)
    recipe = tiny(epochs=2, refit=True, ema=0.5, checkpoint_every_steps=1)
    train(manifest, tmp_path / "whole", recipe)
    chosen = read_run(tmp_path / "whole")["best_epoch"]

    with pytest.raises(KeyboardInterrupt):  # after an epoch of the second training
        train(manifest, tmp_path / "epoch", recipe, progress=Dies("on both parts, epoch 1"))
    card = read_card(tmp_path / "epoch")
    assert not card.is_refit  # until then it is the first one's model that lies there, whole
    assert read_run(tmp_path / "epoch")["refit"] == {"epochs": chosen}

    def dies(self: Refit, card: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # between the split and the weights
        patch.setattr(Refit, "_refit_card", dies)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "end", recipe)
    assert not (read_manifest(tmp_path / "end" / "split.parquet").of_part("validation"))

    stop = Stop()

    class Signals(Silent):
        def begin(self, task: str, total: int | None = None) -> None:
            if task.startswith("on both parts"):
                stop.signal = signal.SIGTERM

    with monkeypatch.context() as patch:
        patch.setattr("bintally.learn.train.stop_signals", lambda: contextlib.nullcontext(stop))
        with pytest.raises(RunStoppedError, match="goes on"):
            train(manifest, tmp_path / "stopped", recipe, progress=Signals())
    assert read_run(tmp_path / "stopped")["status"] == "stopped"

    for name in ("epoch", "end", "stopped"):
        assert train(manifest, tmp_path / name, recipe).card.is_refit
        assert same_bits(
            load_file(tmp_path / name / "model.safetensors"), load_file(tmp_path / "whole/model.safetensors")
        )
        assert read_card(tmp_path / name).metrics == read_card(tmp_path / "whole").metrics


def test_photos_that_were_moved_meanwhile_do_not_bring_the_parts_back(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, recipe = make_manifest(num=30), tiny(epochs=1, refit=True)

    def dies(self: Refit, card: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Refit, "_refit_card", dies)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "run", recipe)
    shutil.move(tmp_path / "photos", tmp_path / "elsewhere")
    moved = replace(manifest, root=tmp_path / "elsewhere")
    train(moved, tmp_path / "run", recipe)
    there = read_manifest(tmp_path / "run" / "split.parquet")
    assert there.root == tmp_path / "elsewhere"
    assert there.rows == joined(manifest).rows


@pytest.mark.parametrize("keep", ["on", "off"])
def test_a_frozen_backbone_too_with_and_without_kept_activations(
    make_manifest: MakeManifest, tiny: Tiny, snapshot: str, tmp_path: Path, keep: str
) -> None:
    recipe = tiny(epochs=2, refit=True, keep_activations=keep, cache_mb=0)
    recipe = replace(recipe, model=replace(recipe.model, backbone=snapshot, unfrozen_stages=0, mirror=True))
    result = train(make_manifest(num=30), tmp_path / "run", recipe)
    assert result.card.is_refit


def test_the_auxiliary_targets_and_a_teacher_are_those_of_both_parts(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=60, records=True)
    train(manifest, tmp_path / "teacher", tiny(epochs=1))
    recipe = tiny(epochs=2, refit=True)
    recipe = replace(
        recipe,
        auxiliary=replace(recipe.auxiliary, record=0.5, words=1),
        teacher=TeacherSettings(run=str(tmp_path / "teacher")),
    )
    assert train(manifest, tmp_path / "run", recipe).card.is_refit
    assert read_run(tmp_path / "run")["refit"]["photos"] == 48
    # A model that has learnt from the validation part may not teach one that is chosen by it.
    with pytest.raises(RunError, match="learnt from 12 photos of this split's validation part"):
        train(manifest, tmp_path / "next", replace(recipe, teacher=TeacherSettings(run=str(tmp_path / "run"))))


def test_no_figure_on_the_validation_part_is_given_of_it(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=60)
    train(manifest, tmp_path / "run", tiny(refit=True))
    with pytest.raises(RunError, match="has learnt from the validation part as well"):
        evaluate(tmp_path / "run", None, EvaluateSettings(part="validation"), Silent())
    before = read_card(tmp_path / "run").validation
    found = evaluate(tmp_path / "run", manifest, EvaluateSettings(part="validation"), Silent())
    assert "12 of 12 photos were trained on" in found["warnings"]
    assert read_card(tmp_path / "run").validation == before  # not those of photos that it has learnt from
    found = evaluate(tmp_path / "run", None, EvaluateSettings(part="calibration"), Silent())
    assert found["photos"]["scored"] == 12
    assert read_card(tmp_path / "run").is_refit


def test_runs_together_are_all_taken_since_nothing_is_left_to_choose_by(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=60)
    runs = [tmp_path / "one", tmp_path / "two"]
    for seed, run in enumerate(runs):
        train(manifest, run, tiny(epochs=1, refit=True, seed=seed))
    for make, settings in ((unite, EnsembleSettings()), (cook, SoupSettings())):
        with pytest.raises(SettingsError, match="nothing to choose by"):
            make(runs, tmp_path / "never", settings, Silent())  # type: ignore[operator]
    united = unite(runs, tmp_path / "ensemble", EnsembleSettings(method="all"), Silent())
    cooked = cook(runs, tmp_path / "soup", SoupSettings(method="uniform"), Silent())
    for made in (united, cooked):
        assert made.taken == tuple(runs)
        assert made.card.is_refit
        assert not made.card.validation
        assert evaluate(made.run, None, EvaluateSettings(part="calibration"), Silent())["photos"]["scored"] == 12
    assert cook(runs[:1], tmp_path / "mirrored", SoupSettings(mirror="on"), Silent()).card.mirror
    found, one, two = (weights(tmp_path / name) for name in ("soup", "one", "two"))
    bias = next(name for name in found if name.endswith("head.bias"))
    assert found[bias].allclose((one[bias] + two[bias]) / 2)  # type: ignore[attr-defined, operator]


def test_the_command_line_says_what_the_figures_are_of(make_manifest: MakeManifest, tmp_path: Path) -> None:
    make_manifest(num=30)
    asked = [sys.executable, "-m", "bintally", "train", str(tmp_path / "photos/split.parquet"), "--recipe", "demo"]
    asked += ["--to", str(tmp_path / "run"), "--epochs", "1", "--set", "pixels.size=32", "--set", "train.refit=true"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "before it was learnt from as well" in told.stdout
    again = subprocess.run([*asked, "--json"], capture_output=True, text=True, check=True)
    outcome = json.loads(again.stdout)
    assert outcome["refit"] is True
    assert outcome["already"] is True
    assert outcome["validation"]["nll"] > 0
