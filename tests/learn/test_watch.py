"""The recorder reads what is there, leaves frozen layers out, survives kills; rules are filled from TOML."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bintally.data.manifest import Manifest
from bintally.errors import RunError, SettingsError
from bintally.learn import watch
from bintally.learn.augment import AugmentSettings
from bintally.learn.frozen import KeepSettings
from bintally.learn.history import Check, Finding, History, TensorStats, Validation
from bintally.learn.recipe import Recipe
from bintally.learn.rules import RULES
from bintally.learn.run import read_run
from bintally.learn.tensor_rules import CheckInputImages
from bintally.learn.train import train as train_run
from bintally.pixels import read_input
from bintally.progress import Silent

torch.set_num_threads(1)


class Always:
    advice = "Nothing helps."

    def findings(self, history: History) -> Iterator[Finding]:
        for check in history.checks:
            yield Finding(rule="Always", step=check.step, where="here", value=1.0, threshold=0.0, message="always")


def network(*, frozen: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    last = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
    for parameter in first.parameters():
        parameter.requires_grad_(not frozen)
    return nn.Sequential(first, last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


def train(model: nn.Sequential, recorder: watch.Recorder, steps: int, *, first: int = 1, rate: float = 0.1) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)
    torch.manual_seed(first)
    for step in range(first, first + steps):
        photos, labels = torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 1, 2])
        recorder.begin(step, photos, labels, 3)
        loss = nn.functional.cross_entropy(model(photos), labels)
        optimizer.zero_grad()
        loss.backward()
        recorder.after_backward(step)
        optimizer.step()
        recorder.after_step(step, 1, loss.item())


def test_a_check_holds_what_the_step_did(tmp_path: Path) -> None:
    model = network()
    recorder = watch.Recorder(model, tmp_path, every=5)
    train(model, recorder, 12)
    assert [check.step for check in recorder.checks] == [1, 5, 10]
    check = recorder.checks[1]
    assert set(check.gradients) == {"0.0.weight", "1.0.weight", "4.weight"}  # no biases
    assert set(check.relu_inputs) == set(check.dead_relus) == {"0.1", "1.1"}
    assert set(check.activations) == {"0.0", "1.0", "4"}
    assert check.labels == (4, 8, 4)  # the four steps since the check before
    assert check.input_photos == 16
    assert abs(check.input_sum / check.input_values) < 0.1
    assert all(ratio is not None and 0 < ratio < 1 for ratio in check.updates.values())
    assert check.mean_loss != check.loss


def test_update_ratio_is_the_change_over_the_size(tmp_path: Path) -> None:
    model = network()
    recorder = watch.Recorder(model, tmp_path, every=1)
    weight = model[4].weight
    before = weight.detach().clone()
    train(model, recorder, 1)
    expected = float((weight.detach() - before).abs().mean() / before.abs().mean())
    assert recorder.checks[0].updates["4.weight"] == pytest.approx(expected, rel=1e-5)


def test_frozen_layers_are_not_read(tmp_path: Path) -> None:
    model = network(frozen=True)
    recorder = watch.Recorder(model, tmp_path, every=1)
    train(model, recorder, 2)
    names = {name for check in recorder.checks for name in (*check.gradients, *check.weights, *check.dead_relus)}
    assert names == {"1.0.weight", "4.weight", "1.1"}
    assert {name for check in recorder.checks for name in check.activations} == {"1.0", "4"}


class WithUnused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = network(), nn.Sequential(nn.Linear(5, 5), nn.ReLU())

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.used(photos)
        return logits


def test_layers_without_gradients_are_no_findings(tmp_path: Path) -> None:
    recorder = watch.Recorder(WithUnused(), tmp_path, every=1)
    train(recorder._model, recorder, 3)  # type: ignore[arg-type]
    assert {"used.4.weight"} < set(recorder.checks[0].updates)
    found = watch.judge(watch.load_rules(), recorder.history(finished=True))
    assert [one for findings in found.values() for one in findings if "unused" in one.where] == []


def test_hooks_are_gone_between_watched_steps(tmp_path: Path) -> None:
    model = network()
    recorder = watch.Recorder(model, tmp_path, every=100)
    train(model, recorder, 2)
    assert not any(module._forward_hooks for module in model.modules())


def test_what_explodes_is_told_without_breaking_the_record(tmp_path: Path) -> None:
    model = network()
    recorder = watch.Recorder(model, tmp_path, every=1)
    train(model, recorder, 30, rate=1e12)
    last = watch.read_history(tmp_path).checks[-1]
    assert last.loss is None
    assert not last.weights["4.weight"].finite
    found = watch.judge(watch.load_rules(), recorder.history())
    assert found["ExplodingTensor"]


def test_dead_channels_are_counted(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model[1][0].bias[:6] = -1e3
    recorder = watch.Recorder(model, tmp_path, every=1)
    train(model, recorder, 1, rate=1e-9)
    assert recorder.checks[0].dead_relus["1.1"] == pytest.approx(6 / 8)


def test_records_after_the_last_checkpoint_are_dropped_on_resume(tmp_path: Path) -> None:
    model = network()
    first = watch.Recorder(model, tmp_path, every=2)
    train(model, first, 7)
    first.after_epoch(7, 1, 1.0, 1.1, [[1, 0], [0, 1]])
    with (tmp_path / watch.CHECKS_FILE).open("a") as file:
        file.write('{"step": 8, "epo')  # killed while it wrote
    again = watch.Recorder(model, tmp_path, every=2, done=5)
    train(model, again, 3, first=6)
    assert [check.step for check in watch.read_history(tmp_path).checks] == [1, 2, 4, 6, 8]
    assert watch.read_history(tmp_path).validations == ()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / watch.CHECKS_FILE).write_text('{"step": "x"}\n')
    with pytest.raises(RunError, match=r"checks\.jsonl is damaged at line 1"):
        watch.read_history(tmp_path)


def test_a_real_training_is_watched_and_judged(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    rules = watch.load_rules()
    watcher = watch.Watcher(watch.WatchSettings(every=2), rules)
    train_run(make_manifest(), tmp_path / "run", tiny(epochs=2), listeners=[watcher])
    history = watch.read_run_history(tmp_path / "run")
    assert history.finished
    assert [one.epoch for one in history.validations] == [1, 2]
    assert all(one.loss and one.train_loss and one.confusion for one in history.validations)
    assert history.checks[0].input_photos > 0
    assert {"head.weight"} < set(history.checks[0].gradients)
    assert history.checks[0].dead_relus
    assert set(watch.report(rules, history)) == set(RULES)


def test_a_second_training_that_is_not_watched_does_not_pass_for_one_that_stands(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    class Ends(Silent):
        def message(self, text: str) -> None:
            if text.startswith("on both parts"):
                raise KeyboardInterrupt

    watcher = watch.Watcher(watch.WatchSettings(every=2), watch.load_rules())
    with pytest.raises(KeyboardInterrupt):
        train_run(make_manifest(), tmp_path / "run", tiny(refit=True), listeners=[watcher], progress=Ends())
    long_ago = time.time() - 7200
    os.utime(tmp_path / "run" / watch.FOLDER / watch.CHECKS_FILE, (long_ago, long_ago))
    history = watch.read_run_history(tmp_path / "run")
    assert history.finished
    assert not watch.judge(watch.load_rules(), history)["StalledTraining"]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_inputs_and_activations_are_read_over_kept_activations(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], snapshot: str, tmp_path: Path, flip: float
) -> None:
    recipe = tiny(epochs=2, keep_activations="on")
    recipe = replace(
        recipe,
        model=replace(recipe.model, backbone=snapshot, unfrozen_stages=0),
        augment=AugmentSettings(flip=flip),
        keep=KeepSettings(folder=str(tmp_path / "kept")),
    )
    manifest = make_manifest()
    watcher = watch.Watcher(watch.WatchSettings(every=2), {})
    train_run(manifest, tmp_path / "run", recipe, listeners=[watcher])
    first, *later = watch.read_history(tmp_path / "run" / "watch").checks
    paths = [manifest.path_of(row) for row in manifest.of_part("train")]
    inputs = np.stack([read_input(path.read_bytes(), recipe.pixels) for path in paths])
    assert first.input_photos == len(paths)
    assert first.input_sum / first.input_values == pytest.approx(float(inputs.mean()), abs=1e-4)
    assert not any(check.input_photos for check in later)
    assert set(first.activations) == {"head"}
    rule = {"CheckInputImages": CheckInputImages(threshold_mean=1e-3, samples=len(paths))}
    assert watch.judge(rule, watch.read_history(tmp_path / "run" / "watch"))["CheckInputImages"]


def test_logits_that_explode_are_found() -> None:
    check = Check(step=1, epoch=1, loss=1.0, mean_loss=1.0, activations={"head": TensorStats(finite=False)})
    (found,) = watch.judge(watch.load_rules(), History(checks=(check,)))["ExplodingTensor"]
    assert found.where == "output of head"


def test_a_rule_stops_a_training(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    watcher = watch.Watcher(
        watch.WatchSettings(every=1, stop_on=("CheckInputImages",)), {"CheckInputImages": Always()}
    )
    with pytest.raises(RunError, match="CheckInputImages fired at step 1"):
        train_run(make_manifest(), tmp_path / "run", tiny(epochs=2), listeners=[watcher])
    assert read_run(tmp_path / "run")["status"] == "failed"


def test_a_loss_that_is_no_number_is_recorded_before_the_run_ends(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    watcher = watch.Watcher(watch.WatchSettings(every=1000), watch.load_rules())
    recipe = tiny(epochs=30, optimizer="sgd", head_lr=1e12, backbone_lr=1e12)
    with pytest.raises(RunError, match="the loss is"):
        train_run(make_manifest(), tmp_path / "run", recipe, listeners=[watcher])
    assert watch.read_history(tmp_path / "run" / "watch").checks[-1].loss is None


def test_rules_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[Overfit]\nratio_threshold = 0.5\n[Confusion]\nenabled = false\n")
    rules = watch.load_rules(path)
    assert list(rules) == [name for name in RULES if name != "Confusion"]
    assert rules["Overfit"].ratio_threshold == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Overfitt]\n", "unknown table .*did you mean 'Overfit'"),
        ("[Overfit]\nratio = 1\n", "unknown setting Overfit.ratio"),
        ("[Overfit]\nratio_threshold = -1\n", "greater than 0"),
        ("[Overfit]\nenabled = 3\n", "true or false"),
    ],
)
def test_rules_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        watch.load_rules(path)


def test_report_has_the_familiar_shape(tmp_path: Path) -> None:
    one = Validation(step=9, epoch=1, train_loss=1.0, loss=2.0)
    verdicts = watch.report(watch.load_rules(), History(validations=(one,)))
    watch.write_report(tmp_path, verdicts)
    body = json.loads((tmp_path / "Overfit.json").read_text())
    assert set(body) == {"RuleTriggered", "Violations", "Datapoints", "RuleParameters", "Details"}
    assert (body["RuleTriggered"], body["Violations"], body["Datapoints"]) == (1, 1, 1)
    assert body["Details"]["findings"][0]["step"] == 9
    assert json.loads((tmp_path / "DeadRelu.json").read_text())["RuleTriggered"] == 0


def test_labels_of_more_steps_than_are_held_apart_are_all_counted(tmp_path: Path) -> None:
    recorder = watch.Recorder(network(), tmp_path, every=1000)
    for step in range(2, 1001):
        recorder.begin(step, None, torch.tensor([0, 2, 2]), 3)
    check = recorder.after_step(1000, 1, 1.0)
    assert check is not None
    assert check.labels == (999, 0, 1998)
