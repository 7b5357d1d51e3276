"""`bintally ensemble`, as a person or a script calls it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bintally.card import ModelCard
from bintally.cli.app import app
from bintally.errors import SettingsError


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_what_is_asked_for_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bintally.counts import CountRange
    from bintally.learn import ensemble
    from bintally.learn.combine import Combined
    from bintally.pixels import PixelSpec

    asked: list[tuple[ensemble.EnsembleSettings, bool]] = []
    figures = {"nll": 1.2345, "accuracy": 0.4, "rmse": 0.9}

    def unite(
        runs: list[Path], to: Path, settings: ensemble.EnsembleSettings, progress: object, *, force: bool
    ) -> Combined:
        asked.append((settings, force))
        card = ModelCard(architecture="x", pixels=PixelSpec(), counts=CountRange(), metrics={"validation": figures})
        return Combined(run=to, card=card, taken=tuple(runs[:1]), tried=((tuple(runs[:1]), figures),))

    monkeypatch.setattr(ensemble, "unite", unite)
    done = call("ensemble", tmp_path / "a", tmp_path / "b", "--to", tmp_path / "c")
    assert done.exit_code == 0
    assert "1.2345" in done.stdout
    assert "1 of 2 runs" in done.stdout
    words = ("--method", "all", "--force", "--json", "--set", "ensemble.batch_size=4")
    told = json.loads(call("ensemble", tmp_path / "a", "--to", tmp_path / "c", *words).stdout)
    assert told["taken"] == [str(tmp_path / "a")]
    assert asked == [
        (ensemble.EnsembleSettings(), False),
        (ensemble.EnsembleSettings(method="all", batch_size=4), True),
    ]
    with pytest.raises(SettingsError, match="method"):
        call("ensemble", tmp_path / "a", "--to", tmp_path / "c", "--method", "loud")
