"""`bintally export` and `card`, and `count --explain`, as a person or a script calls them."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from bintally.card import ModelCard, read_card
from bintally.cli.app import app
from bintally.errors import ModelError, SettingsError, UsageError
from bintally.learn import export as module
from bintally.learn.agreement import Limits
from tests.model_folder import make_model, make_photo


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model(folder)
    return folder


def test_card(model: Path) -> None:
    told = run("card", model)
    assert f"{read_card(model).model_id}, exported, float32" in told
    assert "1.500, on 10 photos" in told
    assert "CC BY-NC-SA 3.0" in told
    values = json.loads(run("card", model, "--json"))
    assert values["counts"] == {"lowest": 0, "highest": 5, "open_ended": False}
    assert values["model_id"] == read_card(model).model_id


def test_card_of_a_damaged_model(model: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "m")
    (tmp_path / "m" / "openvino.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="differs from its card"):
        run("card", tmp_path / "m")


def test_export_passes_on_what_was_asked(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def export(*words: Any, **more: Any) -> ModelCard:
        asked.extend([*words, more])
        return read_card(model)

    monkeypatch.setattr(module, "export", export)
    (tmp_path / "e.toml").write_text("[export]\nnum_check = 7\nprecision = 'bfloat16'\n")
    words = ["--precision", "int8", "--config", tmp_path / "e.toml", "--set", "export.int8={changed=0.02}"]
    told = run("export", tmp_path / "run", "--to", tmp_path / "model", "--accept", *words)
    assert f"written to {tmp_path / 'model'}" in told
    folder, to, settings, _, more = asked
    assert (folder, to, more) == (tmp_path / "run", tmp_path / "model", {"accept": True, "force": False})
    assert settings.precision == "int8"
    assert settings.num_check == 7
    assert settings.int8 == Limits(changed=0.02)
    assert json.loads(run("export", tmp_path / "run", "--to", tmp_path / "model", "--json"))["precision"] == "float32"


@pytest.mark.parametrize("words", [["--precision", "int4"], ["--set", "export.num_check=0"], ["--set", "expert.x=1"]])
def test_export_s_settings_are_checked(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        run("export", tmp_path, "--to", tmp_path / "model", *words)


def test_count_explains_by_pictures(model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(make_photo(width=50, height=70))
    (tmp_path / "b" / "broken.jpg").write_bytes(b"?")
    told = run("count", tmp_path / "a", tmp_path / "b", "--model", model, "--explain", tmp_path / "heat", "--json")
    lines = [json.loads(line) for line in told.splitlines()]
    named = [line.get("heat_map") for line in lines]
    assert len(lines) == 3
    assert len({name for name in named if name}) == 2
    for name in filter(None, named):
        with Image.open(name) as image:
            assert image.size == (50, 70)
    assert len(list((tmp_path / "heat").iterdir())) == 2
    with pytest.raises(UsageError, match="that is a file"):
        run("count", tmp_path / "a", "--model", model, "--explain", tmp_path / "b" / "broken.jpg")


def test_a_run_cannot_explain(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bintally.cli import learn

    monkeypatch.setattr(learn, "_counter", lambda _: object())
    (tmp_path / "1.jpg").write_bytes(make_photo())
    with pytest.raises(UsageError, match="--explain needs an exported model"):
        run("count", tmp_path / "1.jpg", "--model", model, "--explain", tmp_path / "heat")
