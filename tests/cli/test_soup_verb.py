"""`bintally soup`, as a person or a script calls it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bintally.card import ModelCard, read_card
from bintally.cli.app import app
from bintally.errors import RunError, SettingsError


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def cooked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Takes the place of the work: what the verb asks for, and an outcome to show."""
    from bintally.counts import CountRange
    from bintally.learn import soup
    from bintally.learn.combine import Combined
    from bintally.pixels import PixelSpec

    asked: list[dict[str, object]] = []
    figures = {"nll": 1.2345, "accuracy": 0.4, "rmse": 0.9}

    def cook(runs: list[Path], to: Path, settings: soup.SoupSettings, progress: object, *, force: bool) -> Combined:
        asked.append({"runs": runs, "to": to, "settings": settings, "force": force})
        card = ModelCard(architecture="x", pixels=PixelSpec(), counts=CountRange(), metrics={"validation": figures})
        return Combined(run=to, card=card, taken=tuple(runs[:1]), tried=((tuple(runs[:1]), figures),))

    monkeypatch.setattr(soup, "cook", cook)
    return asked


def test_what_is_asked_for_and_told(cooked: list[dict[str, object]], tmp_path: Path) -> None:
    from bintally.learn.soup import SoupSettings

    done = call("soup", tmp_path / "a", tmp_path / "b", "--to", tmp_path / "c")
    assert done.exit_code == 0
    assert "1.2345" in done.stdout
    assert "1 of 2 runs" in done.stdout
    assert cooked[0]["settings"] == SoupSettings()
    words = ("--method", "uniform", "--mirror", "--force", "--json", "--set", "soup.statistics=99")
    told = json.loads(call("soup", tmp_path / "a", "--to", tmp_path / "c", *words).stdout)
    assert told["validation"]["nll"] == 1.2345
    assert told["taken"] == [str(tmp_path / "a")]
    assert cooked[1]["settings"] == SoupSettings(method="uniform", mirror="on", statistics=99)
    assert cooked[1]["force"]
    call("soup", tmp_path / "a", "--to", tmp_path / "c", "--no-mirror")
    assert cooked[2]["settings"] == SoupSettings(mirror="off")
    call("soup", tmp_path / "a", "--to", tmp_path / "c", "--scales", "160/224/288")
    call("soup", tmp_path / "a", "--to", tmp_path / "c", "--scales", "160,224")
    assert [one["settings"] for one in cooked[3:]] == [
        SoupSettings(scales=(160, 224, 288)),
        SoupSettings(scales=(160, 224)),
    ]


@pytest.mark.usefixtures("cooked")
def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"soup\.statistic.*did you mean"):
        call("soup", tmp_path / "a", "--to", tmp_path / "c", "--set", "soup.statistic=3")
    for wrong in ("160/wide", "3/224", ""):
        with pytest.raises(SettingsError, match="scales"):
            call("soup", tmp_path / "a", "--to", tmp_path / "c", "--scales", wrong)
    with pytest.raises(SettingsError, match="method"):
        call("soup", tmp_path / "a", "--to", tmp_path / "c", "--method", "boiled")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="--force"):
        call("soup", tmp_path / "a", "--to", tmp_path / "c")
    with pytest.raises(Exception, match="no model"):
        read_card(tmp_path / "c")
