"""Training over kept activations gives what computing them again gives, and only where the recipe allows it."""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bintally.errors import RunError, RunStoppedError, SettingsError
from bintally.learn.augment import AugmentSettings
from bintally.learn.frozen import KeepSettings, NotKeptError
from bintally.learn.kept import _mirror_luck, beyond_mirroring
from bintally.learn.model import CountModel, load_run_model
from bintally.learn.recipe import Recipe
from bintally.learn.stopping import Stop
from bintally.learn.train import train
from bintally.progress import Silent

FLIPS = AugmentSettings(flip=0.5)


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def frozen_recipe(tiny: Callable[..., Recipe], snapshot: str) -> Callable[..., Recipe]:
    def make(unfrozen: int = 0, augment: AugmentSettings = FLIPS, folder: Path | None = None, **other: Any) -> Recipe:
        recipe = tiny(**{"epochs": 3, "patience": 0, **other})
        model = replace(recipe.model, backbone=snapshot, unfrozen_stages=unfrozen)
        keep = KeepSettings(folder=str(folder) if folder else "")
        return replace(recipe, model=model, augment=augment, keep=keep)

    return make


@pytest.mark.parametrize("unfrozen", [0, 1])
@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
def test_the_same_weights_to_the_bit_in_float32(
    tmp_path: Path, make_manifest: Any, frozen_recipe: Any, unfrozen: int, flip: float
) -> None:
    manifest = make_manifest()
    augment, folder = AugmentSettings(flip=flip), tmp_path / "kept"
    results = [
        train(
            manifest,
            tmp_path / wish,
            frozen_recipe(unfrozen, augment, folder, keep_activations=wish),
        )
        for wish in ("off", "on", "auto")
    ]
    assert len(list(folder.iterdir())) == 1
    states = [load_run_model(result.run)[0].state_dict() for result in results]
    for other in states[1:]:
        assert all(torch.equal(states[0][name], other[name]) for name in states[0])
    assert len({str(result.card.metrics) for result in results}) == 1


def test_both_views_are_kept_for_a_model_that_mirrors(tmp_path: Path, make_manifest: Any, frozen_recipe: Any) -> None:
    manifest, results = make_manifest(), []
    for wish in ("off", "on"):
        recipe = frozen_recipe(1, AugmentSettings(flip=0.0), tmp_path / "kept", keep_activations=wish)
        recipe = replace(recipe, model=replace(recipe.model, mirror=True))
        results.append(train(manifest, tmp_path / wish, recipe))
    one, two = (load_run_model(result.run)[0].state_dict() for result in results)
    assert all(torch.equal(one[name], two[name]) for name in one)
    figures = [result.card.metrics["validation"]["nll"] for result in results]
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)
    assert results[0].card.mirror
    plain = train(manifest, tmp_path / "plain", frozen_recipe(1, AugmentSettings(flip=0.0)))
    assert plain.card.metrics["validation"]["nll"] != figures[0]


def test_close_in_bfloat16(tmp_path: Path, make_manifest: Any, frozen_recipe: Any) -> None:
    manifest = make_manifest()
    results = [
        train(manifest, tmp_path / wish, frozen_recipe(1, keep_activations=wish, precision="bf16-mixed"))
        for wish in ("off", "on")
    ]
    one, two = (result.card.metrics["validation"]["nll"] for result in results)
    assert one == pytest.approx(two, rel=2e-2)


def test_the_second_run_computes_nothing(tmp_path: Path, make_manifest: Any, frozen_recipe: Any) -> None:
    manifest, told = make_manifest(), Told()
    for name in ("a", "b"):
        train(manifest, tmp_path / name, frozen_recipe(folder=tmp_path / "kept"), progress=told)
    assert sum(line.startswith("kept activations:") for line in told.lines) == 1


def test_a_stop_while_activations_are_computed_keeps_what_there_is(
    tmp_path: Path, make_manifest: Any, frozen_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, stop, told = make_manifest(), Stop(), Told()
    asked = frozen_recipe(folder=tmp_path / "kept")
    asked = replace(asked, keep=replace(asked.keep, at_once=4))
    compute, calls = CountModel.frozen_features, iter(range(100))

    def stopped(self: CountModel, x_NCHW: torch.Tensor) -> torch.Tensor:
        if next(calls) == 3:
            stop.signal = signal.SIGTERM
        return compute(self, x_NCHW)

    with monkeypatch.context() as patch:
        patch.setattr("bintally.learn.train.stop_signals", lambda: contextlib.nullcontext(stop))
        patch.setattr(CountModel, "frozen_features", stopped)
        with pytest.raises(RunStoppedError, match="goes on"):
            train(manifest, tmp_path / "run", asked)
    assert next(calls) == 4
    train(manifest, tmp_path / "run", asked, progress=told)
    (line,) = [line for line in told.lines if line.startswith("kept activations:")]
    num = len(manifest.of_part("validation")) + 2 * len(manifest.of_part("train"))
    assert f"{num - 3 * 4} views" in line  # one photo first, to tell the size; then three fours


def test_auto_keeps_only_what_pays_and_what_can_be(tmp_path: Path, make_manifest: Any, frozen_recipe: Any) -> None:
    manifest, folder = make_manifest(), tmp_path / "kept"
    shifts = AugmentSettings(flip=0.5, shift=0.1)
    train(manifest, tmp_path / "a", frozen_recipe(augment=shifts, folder=folder, epochs=3))
    train(manifest, tmp_path / "b", frozen_recipe(folder=folder, epochs=2))
    train(manifest, tmp_path / "c", frozen_recipe(unfrozen=4, folder=folder))
    assert not folder.exists()
    told = Told()
    train(
        manifest, tmp_path / "d", frozen_recipe(augment=shifts, folder=folder, keep_activations="on"), progress=told
    )
    assert "kept activations: photos are mirrored at most; no shift" in told.lines


def test_on_with_nothing_frozen_is_an_error(tmp_path: Path, make_manifest: Any, frozen_recipe: Any) -> None:
    with pytest.raises(SettingsError, match="the recipe freezes nothing"):
        train(make_manifest(), tmp_path / "a", frozen_recipe(unfrozen=4, keep_activations="on"))


def test_above_the_bound_auto_computes_again_and_on_fails(
    tmp_path: Path, make_manifest: Any, frozen_recipe: Any
) -> None:
    manifest, told = make_manifest(), Told()
    small = KeepSettings(folder=str(tmp_path / "kept"), max_gb=1e-9)
    train(manifest, tmp_path / "a", replace(frozen_recipe(), keep=small), progress=told)
    assert any("above the bound" in line and "in every epoch" in line for line in told.lines)
    with pytest.raises(NotKeptError, match="above the bound"):
        train(manifest, tmp_path / "b", replace(frozen_recipe(keep_activations="on"), keep=small))


def test_mirrored_as_the_augmentation_would() -> None:
    from bintally.learn.augment import augment

    square = np.zeros((4, 4, 3), dtype=np.uint8)
    square[:, 0] = 255
    luck = _mirror_luck(3, 5, 50)
    flipped = [augment(square, FLIPS, seed=3, epoch=5, index=n)[0, 3, 0] == 255 for n in range(50)]
    assert (luck < 0.5).tolist() == flipped
    assert 0 < sum(flipped) < 50


def test_what_goes_beyond_mirroring_is_named() -> None:
    assert beyond_mirroring(AugmentSettings(flip=1.0)) == []
    assert beyond_mirroring(AugmentSettings(cutout=0.1, shift=0.1)) == ["shift", "cutout"]


def test_a_changed_photo_is_not_kept_under_its_old_hash(
    tmp_path: Path, make_manifest: Any, frozen_recipe: Any
) -> None:
    manifest = make_manifest()
    changed, gone = (manifest.path_of(row) for row in manifest.of_part("train")[:2])
    changed.write_bytes(gone.read_bytes())
    with pytest.raises(RunError, match="has changed since the manifest was made"):
        train(manifest, tmp_path / "a", frozen_recipe(folder=tmp_path / "kept"))
    gone.unlink()
    changed.unlink()
    with pytest.raises(RunError, match="cannot read"):
        train(manifest, tmp_path / "b", frozen_recipe(folder=tmp_path / "kept"))


@pytest.mark.parametrize("sizes", [{"start_size": 16}, {"sizes": [32, 64]}], ids=["growing", "drawn"])
def test_photos_of_several_sizes_are_not_kept(
    tmp_path: Path, make_manifest: Any, frozen_recipe: Any, sizes: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match="leave one out"):
        train(make_manifest(num=10), tmp_path / "run", frozen_recipe(keep_activations="on", **sizes))
