"""Soups: means of weights with statistics of their own, never worse than their best run, of runs that fit together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bintally.card import read_card
from bintally.data.manifest import Manifest
from bintally.errors import RunError, SettingsError
from bintally.learn.checkpoint import same_bits
from bintally.learn.counter import TrainedCounter
from bintally.learn.evaluate import EvaluateSettings, evaluate
from bintally.learn.loader import Photos
from bintally.learn.material import TrainingData
from bintally.learn.model import load_run_model
from bintally.learn.recipe import Recipe
from bintally.learn.run import read_run
from bintally.learn.soup import SoupSettings, average, cook, unsettled
from bintally.learn.train import train
from bintally.progress import Silent

QUICK = SoupSettings(batch_size=8, device="cpu")


@pytest.fixture(scope="module")
def make_recipe(snapshot: str) -> Callable[..., Recipe]:
    from bintally.learn.recipe import read_recipe

    def make(size: int = 32, **settings: object) -> Recipe:
        flags: dict[str, dict[str, Any]] = {
            "model": {"backbone": snapshot, "unfrozen_stages": 1},
            "train": {"epochs": 2, "batch_size": 8, "precision": "32-true", "threads": 1, **settings},
            "pixels": {"size": size},
        }
        return read_recipe("demo", flags, environ={})

    return make


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, make_squares: Callable[..., Manifest]) -> Manifest:
    return make_squares(tmp_path_factory.mktemp("photos"), num=40)


@pytest.fixture(scope="module")
def runs(
    manifest: Manifest, tmp_path_factory: pytest.TempPathFactory, make_recipe: Callable[..., Recipe]
) -> tuple[Path, Path, Path]:
    """Two of one pretraining, and one that went astray."""
    folder = tmp_path_factory.mktemp("runs")
    train(manifest, folder / "one", make_recipe(seed=1))
    train(manifest, folder / "two", make_recipe(seed=2))
    train(manifest, folder / "astray", make_recipe(seed=3, backbone_lr=0.3, head_lr=0.3, optimizer="sgd", epochs=1))
    return folder / "one", folder / "two", folder / "astray"


def test_an_average_is_the_mean_whatever_the_order() -> None:
    states = [{"w": torch.randn(50), "n": torch.tensor(k)} for k in range(3)]
    mixed = average(states)
    torch.testing.assert_close(mixed["w"], (states[0]["w"] + states[1]["w"] + states[2]["w"]) / 3)
    assert torch.equal(mixed["w"], average([states[0], states[2], states[1]])["w"])
    assert mixed["n"] == 0
    assert same_bits(average(states[:1]), states[0])


def test_a_uniform_soup_is_a_run_with_statistics_of_its_own(
    runs: tuple[Path, Path, Path], manifest: Manifest, tmp_path: Path
) -> None:
    soup = cook(runs[:2], tmp_path / "soup", replace(QUICK, method="uniform"), Silent())
    assert soup.taken == runs[:2]
    states = [load_run_model(run)[0].state_dict() for run in runs[:2]]
    model, card = load_run_model(tmp_path / "soup")
    state = model.state_dict()
    torch.testing.assert_close(state["head.weight"], (states[0]["head.weight"] + states[1]["head.weight"]) / 2)
    norms = unsettled(states)
    assert norms
    assert all("stages.2" in name for name in norms)  # what was frozen is the same in both
    frozen = "backbone.embedder.embedder.normalization.running_mean"
    assert torch.equal(state[frozen], states[0][frozen])

    # By hand: what goes into the first of these layers, over the training photos, batch by batch.
    means: list[torch.Tensor] = []
    layer = model.get_submodule(norms[0])
    layer.register_forward_pre_hook(lambda _, inputs: means.append(inputs[0].mean(dim=(0, 2, 3))))
    data = TrainingData.of(manifest)
    photos = Photos(data.train_paths, card.pixels)
    with torch.no_grad():
        for start in range(0, len(photos), 8):
            model(torch.from_numpy(photos.batch(range(start, min(start + 8, len(photos))))))
    photos.close()
    torch.testing.assert_close(layer.running_mean, torch.stack(means).mean(0), rtol=1e-3, atol=1e-3)

    assert card.calibration is None
    assert card.metrics["soup"]["runs"] == [str(run) for run in runs[:2]]
    found = evaluate(tmp_path / "soup", None, EvaluateSettings(part="validation", resamples=100), Silent())
    assert found["scopes"][0]["raw"]["figures"]["nll"]["value"] == pytest.approx(
        card.metrics["validation"]["nll"], abs=1e-4
    )
    assert read_card(tmp_path / "soup").calibration is not None


def test_a_greedy_soup_is_no_worse_than_its_best_run(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    soup = cook(runs, tmp_path / "soup", QUICK, Silent())
    alone = {those[0]: found["nll"] for those, found in soup.tried if len(those) == 1}
    for run in runs:
        assert alone[run] == pytest.approx(read_card(run).metrics["validation"]["nll"], abs=1e-4)
    assert soup.taken[0] == min(alone, key=lambda run: alone[run])
    assert soup.card.metrics["validation"]["nll"] <= min(alone.values())
    assert len(soup.tried) == 5
    assert [one["run"] for one in read_run(tmp_path / "soup")["soup"]["taken"]] == [str(run) for run in soup.taken]


def test_a_soup_of_one_can_mirror(runs: tuple[Path, Path, Path], manifest: Manifest, tmp_path: Path) -> None:
    cook(runs[:1], tmp_path / "soup", replace(QUICK, mirror="on"), Silent())
    model, card = load_run_model(tmp_path / "soup")
    assert card.mirror
    assert same_bits(model.state_dict(), load_run_model(runs[0])[0].state_dict())
    photo = manifest.path_of(manifest.rows[0]).read_bytes()
    one, other = (TrainedCounter.load(run, device="cpu").logits([photo])[0] for run in (tmp_path / "soup", runs[0]))
    assert not np.allclose(one, other)  # type: ignore[arg-type]
    again = cook([tmp_path / "soup"], tmp_path / "again", QUICK, Silent())
    assert again.card.mirror
    assert not cook([tmp_path / "soup"], tmp_path / "off", replace(QUICK, mirror="off"), Silent()).card.mirror


def test_a_soup_of_one_can_look_at_several_sizes(
    runs: tuple[Path, Path, Path], manifest: Manifest, tmp_path: Path
) -> None:
    made = cook(runs[:1], tmp_path / "soup", replace(QUICK, scales=(32, 48)), Silent())
    model, card = load_run_model(tmp_path / "soup")
    assert model.scales == card.scales == (32, 48)
    found = evaluate(tmp_path / "soup", None, EvaluateSettings(part="validation", resamples=100), Silent())
    assert found["scopes"][0]["raw"]["figures"]["nll"]["value"] == pytest.approx(
        made.card.metrics["validation"]["nll"], abs=1e-4
    )
    assert made.card.metrics["validation"]["nll"] != pytest.approx(
        read_card(runs[0]).metrics["validation"]["nll"], abs=1e-5
    )
    assert cook([tmp_path / "soup"], tmp_path / "again", QUICK, Silent()).card.scales == (32, 48)


def test_runs_that_do_not_fit_together_are_named(
    runs: tuple[Path, Path, Path], manifest: Manifest, make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    small = make_recipe(size=24, epochs=1)
    train(manifest, tmp_path / "small", small)
    with pytest.raises(RunError, match="differ in their input"):
        cook([runs[0], tmp_path / "small"], tmp_path / "soup", QUICK, Silent())
    recipe = make_recipe(epochs=1)
    train(manifest, tmp_path / "tiny", replace(recipe, model=replace(recipe.model, backbone="tiny")))
    with pytest.raises(RunError, match="different networks"):
        cook([runs[0], tmp_path / "tiny"], tmp_path / "soup", QUICK, Silent())
    with pytest.raises(SettingsError, match="once"):
        cook([runs[0], runs[0]], tmp_path / "soup", QUICK, Silent())
    assert not (tmp_path / "soup").exists()


def test_what_is_there_is_not_written_over(
    runs: tuple[Path, Path, Path], manifest: Manifest, make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for force in (False, True):
        with pytest.raises(RunError, match=r"exists|no run folder"):
            cook(runs[:1], tmp_path / "mine", QUICK, Silent(), force=force)
    cook(runs[:1], tmp_path / "soup", QUICK, Silent())
    with pytest.raises(RunError, match="--force"):
        cook(runs[1:2], tmp_path / "soup", QUICK, Silent())
    cook(runs[1:2], tmp_path / "soup", QUICK, Silent(), force=True)
    assert read_card(tmp_path / "soup").metrics["soup"]["runs"] == [str(runs[1])]
    with pytest.raises(RunError, match="averaged weights"):
        train(manifest, tmp_path / "soup", make_recipe())
