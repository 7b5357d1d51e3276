"""Ensembles: networks side by side whose answer is the mean of theirs, as one run to whatever takes runs."""

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
from bintally.learn.counter import TrainedCounter
from bintally.learn.ensemble import EnsembleSettings, unite
from bintally.learn.evaluate import EvaluateSettings, evaluate
from bintally.learn.export import ExportSettings, export
from bintally.learn.model import load_run_model
from bintally.learn.recipe import Recipe, read_recipe
from bintally.learn.run import read_run
from bintally.learn.soup import SoupSettings, cook
from bintally.learn.train import train
from bintally.progress import Silent

ALL = EnsembleSettings(method="all", batch_size=8, device="cpu")


def recipe(backbone: str, *, head: str = "corn", **settings: object) -> Recipe:
    flags: dict[str, dict[str, Any]] = {
        "model": {"backbone": backbone, "unfrozen_stages": 1, "head": head, "mirror": backbone == "tiny"},
        "train": {"epochs": 1, "batch_size": 8, "precision": "32-true", "threads": 1, **settings},
        "pixels": {"size": 32},
    }
    return read_recipe("demo", flags, environ={})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, make_squares: Callable[..., Manifest]) -> Manifest:
    return make_squares(tmp_path_factory.mktemp("photos"), num=40)


@pytest.fixture(scope="module")
def runs(manifest: Manifest, snapshot: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Of two different networks, and one that went astray."""
    folder = tmp_path_factory.mktemp("runs")
    train(manifest, folder / "one", recipe(snapshot, seed=1))
    train(manifest, folder / "two", recipe("tiny", seed=2))
    train(manifest, folder / "astray", recipe(snapshot, seed=3, backbone_lr=0.3, head_lr=0.3, optimizer="sgd"))
    return folder / "one", folder / "two", folder / "astray"


def test_an_ensemble_is_a_run_that_answers_with_the_mean(
    runs: tuple[Path, Path, Path], manifest: Manifest, tmp_path: Path
) -> None:
    made = unite(runs[:2], tmp_path / "both", ALL, Silent())
    assert made.taken == runs[:2]
    model, card = load_run_model(tmp_path / "both")
    assert card.mirror  # one of them does
    assert card.metrics["ensemble"]["runs"] == [str(run) for run in runs[:2]]
    members = [load_run_model(run)[0] for run in runs[:2]]
    x = torch.randn(4, 3, 32, 32)

    def odds(logits: torch.Tensor) -> torch.Tensor:
        p = logits.softmax(1)
        return (p.flip(1).cumsum(1).flip(1)[:, 1:] / p[:, :-1]).log()

    with torch.no_grad():
        model.mirror, members[1].mirror = False, False
        mean = (odds(members[0](x)) + odds(members[1](x))) / 2
        torch.testing.assert_close(odds(model(x)), mean, atol=2e-3, rtol=2e-3)

    found = evaluate(tmp_path / "both", None, EvaluateSettings(part="validation", resamples=100), Silent())
    assert found["scopes"][0]["raw"]["figures"]["nll"]["value"] == pytest.approx(
        card.metrics["validation"]["nll"], abs=1e-4
    )
    assert read_card(tmp_path / "both").calibration is not None
    _, maps = TrainedCounter.load(tmp_path / "both", device="cpu").maps(np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert maps.ndim == 4
    with pytest.raises(RunError, match="side by side"):
        train(manifest, tmp_path / "both", recipe("tiny"))


def test_an_ensemble_looks_at_the_scales_of_its_runs(
    runs: tuple[Path, Path, Path], manifest: Manifest, tmp_path: Path
) -> None:
    cook(runs[:1], tmp_path / "scaled", SoupSettings(scales=(32, 48), batch_size=8, device="cpu"), Silent())
    made = unite((tmp_path / "scaled", runs[1]), tmp_path / "both", ALL, Silent())
    assert load_run_model(tmp_path / "both")[0].scales == made.card.scales == (32, 48)
    found = evaluate(tmp_path / "both", None, EvaluateSettings(part="validation", resamples=100), Silent())
    assert found["scopes"][0]["raw"]["figures"]["nll"]["value"] == pytest.approx(
        made.card.metrics["validation"]["nll"], abs=1e-4
    )


def test_an_ensemble_is_exported_like_any_run(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    unite(runs[:2], tmp_path / "both", ALL, Silent())
    export(tmp_path / "both", tmp_path / "exported", ExportSettings(num_check=8, num_quantise=8), Silent())
    assert read_card(tmp_path / "exported").kind == "exported"


def test_greedy_takes_what_helps(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    made = unite(runs, tmp_path / "greedy", replace(ALL, method="greedy"), Silent())
    alone = {those[0]: found["nll"] for those, found in made.tried if len(those) == 1}
    assert alone[runs[0]] == pytest.approx(read_card(runs[0]).metrics["validation"]["nll"], abs=0.05)
    assert made.taken[0] == min(alone, key=lambda run: alone[run])
    assert made.card.metrics["validation"]["nll"] <= min(alone.values())
    assert len(made.tried) == 5
    assert [one["run"] for one in read_run(tmp_path / "greedy")["ensemble"]["taken"]] == [
        str(run) for run in made.taken
    ]


def test_runs_that_do_not_fit_together_are_named(
    runs: tuple[Path, Path, Path], manifest: Manifest, tmp_path: Path
) -> None:
    train(manifest, tmp_path / "linear", recipe("tiny", head="linear"))
    with pytest.raises(RunError, match="differ in their head"):
        unite([runs[0], tmp_path / "linear"], tmp_path / "both", ALL, Silent())
    with pytest.raises(SettingsError, match="once"):
        unite([runs[0], runs[0]], tmp_path / "both", ALL, Silent())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="--force"):
        unite(runs[:2], tmp_path / "mine", ALL, Silent())
    assert not (tmp_path / "both").exists()
