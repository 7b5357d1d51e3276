"""The loop: learns, chooses the best epoch, goes on from any step to the same bits, stops when it makes no sense."""

import contextlib
import csv
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bintally.data.manifest import Manifest
from bintally.errors import RunError, RunStoppedError
from bintally.learn.checkpoint import same_bits
from bintally.learn.head import make_head
from bintally.learn.listen import Listener, Start
from bintally.learn.loop import Training
from bintally.learn.model import load_run_model
from bintally.learn.recipe import Recipe
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


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_training_learns_what_can_be_learnt(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path) -> None:
    result = train(make_manifest(num=400), tmp_path / "run", tiny(epochs=8, batch_size=16))
    assert result.card.metrics["validation"]["accuracy"] > 0.4  # a blind counter has about 0.2


@pytest.mark.parametrize("step", [1, 4, 6, 7])  # three steps an epoch, a checkpoint every two
def test_a_run_that_died_at_any_step_ends_with_the_same_bits(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, step: int
) -> None:
    manifest = make_manifest()
    recipe = tiny(epochs=3, checkpoint_every_steps=2, sampling="sqrt", class_weights="balanced", clip=1.0)
    train(manifest, tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "killed", recipe, listeners=[Ends(step)])
    assert read_run(tmp_path / "killed")["status"] == "running"
    train(manifest, tmp_path / "killed", recipe)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert same_bits(whole, killed)
    assert history(tmp_path / "whole") == history(tmp_path / "killed")


FEATURES: dict[str, dict[str, dict[str, object]]] = {
    "average": {"train": {"ema": 0.9}},
    "mixup": {"augment": {"mixup": 0.4}, "train": {"loss": "emd", "loss_mix": 0.3}},
    "stages": {"train": {"stage_lr_decay": 0.5, "loss": "cumulative"}, "model": {"head": "coral"}},
    "corn": {"train": {"loss": "soft-ordinal", "ema": 0.99}, "model": {"head": "corn"}},
    "auxiliary": {"auxiliary": {"record": 0.5}, "augment": {"mixup": 0.4}, "train": {"ema": 0.9}},
    "changes": {"auxiliary": {"record": 0.5, "changes": 0.5}},
}


def with_tables(recipe: Recipe, tables: dict[str, dict[str, object]]) -> Recipe:
    changed = {table: replace(getattr(recipe, table), **keys) for table, keys in tables.items()}
    return replace(recipe, **changed)


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("keep", [False, True])
def test_every_feature_goes_on_to_the_same_bits(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, snapshot: str, feature: str, keep: bool
) -> None:
    manifest = make_manifest(num=30, records=True)
    recipe = with_tables(tiny(epochs=3, checkpoint_every_steps=1), FEATURES[feature])
    if keep:
        own = {"model": {"backbone": snapshot, "unfrozen_stages": 1}, "train": {"keep_activations": "on"}}
        recipe = with_tables(recipe, own)  # type: ignore[arg-type]
    train(manifest, tmp_path / "whole", recipe)
    for step in (3, 4):  # three steps an epoch: the last one of the first, and the first of the next
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "killed", recipe, listeners=[Ends(step)])
    train(manifest, tmp_path / "killed", recipe)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert same_bits(whole, killed)
    assert history(tmp_path / "whole") == history(tmp_path / "killed")
    model, card = load_run_model(tmp_path / "whole")
    assert card.head == recipe.model.head
    assert type(model.head) is type(make_head(recipe.model.head, 4, 6))


@pytest.mark.parametrize(
    ("sizes", "seen"),
    [
        ({"epochs": 3, "start_size": 32}, [32, 32, 64, 64, 64, 64]),  # the middle, 48, is no step of 32
        ({"epochs": 6, "sizes": (32, 96)}, None),  # drawn: see test_optim
    ],
    ids=["growing", "drawn"],
)
def test_photos_of_several_sizes_go_on_to_the_same_bits_and_are_validated_at_full_size(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, sizes: dict[str, object], seen: list[int] | None
) -> None:
    manifest = make_manifest(num=30)  # 18 to train on, two steps an epoch
    recipe = tiny(checkpoint_every_steps=1, **sizes)
    recipe = replace(recipe, pixels=replace(recipe.pixels, size=64))
    sides: list[int] = []

    class Sides(Listener):
        def on_batch(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
            sides.append(x.shape[-1])

    train(manifest, tmp_path / "whole", recipe, listeners=[Sides()])
    assert len(sides) == 2 * recipe.train.epochs
    assert sides == seen if seen else set(sides) == {32, 96}
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "killed", recipe, listeners=[Ends(3)])
    train(manifest, tmp_path / "killed", recipe)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert same_bits(whole, killed)
    assert load_run_model(tmp_path / "whole")[1].pixels.size == 64


def test_what_the_records_teach_is_learnt_and_left_behind(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=60, records=True)
    recipe = with_tables(tiny(epochs=6), {"auxiliary": {"record": 1.0}})
    heads: list[torch.Tensor] = []

    class Looks(Listener):
        def on_start(self, start: Start) -> None:
            self.model = start.model
            heads.append(self.model.auxiliary.weight.detach().clone())  # type: ignore[union-attr]

        def on_end(self) -> None:
            heads.append(self.model.auxiliary.weight.detach().clone())  # type: ignore[union-attr]

    train(manifest, tmp_path / "run", recipe, listeners=[Looks()])
    assert not torch.equal(*heads)
    rows = history(tmp_path / "run")
    beside = [float(row["train_loss"]) - float(row["train_nll"]) for row in rows]
    assert beside[-1] < beside[0]
    assert not any("auxiliary" in name for name in load_file(tmp_path / "run" / "model.safetensors"))
    model, _ = load_run_model(tmp_path / "run")
    assert model.auxiliary is None


def test_an_average_changes_what_is_kept_and_not_what_is_learnt(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=30)
    plain, averaged = tiny(epochs=2), tiny(epochs=2, ema=0.9)
    train(manifest, tmp_path / "plain", plain)
    train(manifest, tmp_path / "averaged", averaged)
    learnt = [[row["train_nll"] for row in history(tmp_path / name)] for name in ("plain", "averaged")]
    assert learnt[0] == learnt[1]
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "averaged"))
    assert not same_bits(whole, killed)


@pytest.mark.parametrize("feature", ["average", "corn"])
def test_a_stop_while_validating_puts_the_training_away_not_its_average(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, feature: str
) -> None:
    manifest, recipe = make_manifest(num=30), with_tables(tiny(epochs=2), FEATURES[feature])
    train(manifest, tmp_path / "whole", recipe)
    stop, validate = Stop(), Training._validate

    def signalled(self: Training) -> object:
        stop.signal = signal.SIGTERM
        return validate(self)

    with monkeypatch.context() as patch:
        patch.setattr("bintally.learn.train.stop_signals", lambda: contextlib.nullcontext(stop))
        patch.setattr(Training, "_validate", signalled)
        with pytest.raises(RunStoppedError):
            train(manifest, tmp_path / "stopped", recipe)
    train(manifest, tmp_path / "stopped", recipe)
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert same_bits(whole, stopped)
    assert history(tmp_path / "whole") == history(tmp_path / "stopped")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_optimizer_goes_on(make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, optimizer: str) -> None:
    manifest = make_manifest(num=30)
    recipe = tiny(epochs=2, optimizer=optimizer, schedule="cosine", checkpoint_every_steps=1)
    train(manifest, tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "killed", recipe, listeners=[Ends(3)])
    train(manifest, tmp_path / "killed", recipe)
    whole, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert same_bits(whole, killed)


def test_patience_ends_a_training_that_gets_no_better(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    recipe = tiny(epochs=30, patience=1, head_lr=1e-9, backbone_lr=0.05, schedule="constant")
    result = train(make_manifest(num=20), tmp_path / "run", recipe)
    assert result.epochs < 30
    assert result.epochs - result.best_epoch == 1


def test_a_loss_that_is_infinite_ends_the_run_and_says_what_to_change(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    recipe = tiny(epochs=3, optimizer="sgd", head_lr=1e30, backbone_lr=1e30, schedule="constant")
    with pytest.raises(RunError, match=r"not finite|the loss is"):
        train(make_manifest(num=20), tmp_path / "run", recipe)
    assert read_run(tmp_path / "run")["status"] == "failed"
