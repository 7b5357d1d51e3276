import json
from dataclasses import replace
from pathlib import Path

import pytest

from bintally import files
from bintally.card import CARD_FILE, Calibration, ModelCard, read_card, write_card
from bintally.counts import CountRange
from bintally.errors import ModelError
from bintally.pixels import PixelSpec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with a card."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "backbone.json").write_bytes(b"{}")
    named = {name: files.sha256_of(tmp_path / name) for name in ("model.safetensors", "backbone.json")}
    card = ModelCard(
        architecture="tiny",
        pixels=PixelSpec(size=64),
        counts=CountRange(highest=10, open_ended=True),
        open_mean=12.5,
        calibration=Calibration(temperature=1.25, num_photos=900),
        metrics={"test": {"accuracy": 0.5}},
        files=named,
        notes=("a remark",),
    )
    write_card(tmp_path, card)
    return tmp_path


def test_a_card_comes_back_as_it_was_written(model: Path) -> None:
    card = read_card(model)
    write_card(model, card)
    assert read_card(model) == card
    assert card.pixels.std == (0.229, 0.224, 0.225)
    assert (card.calibration or Calibration()).temperature == 1.25
    assert "CC BY-NC-SA" in card.licence


def test_the_id_is_that_of_the_weights(model: Path) -> None:
    card = read_card(model)
    assert card.model_id == card.files["model.safetensors"][:12]
    assert replace(card, files={}).model_id == "unsaved"
    assert replace(card, metrics={}).model_id == card.model_id
    both = {"model.onnx": "a" * 64, "openvino.bin": "b" * 64}
    assert replace(card, files=both).model_id != replace(card, files=both, precision="int8").model_id


def test_a_file_that_differs_from_the_card(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"model\.safetensors differs from its card"):
        read_card(model)
    assert read_card(model, check_files=False).architecture == "tiny"
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model\.safetensors"):
        read_card(model)


def test_a_card_names_no_file_outside_its_folder(model: Path) -> None:
    card = read_card(model)
    write_card(model, replace(card, files={"../secret": "0"}))
    with pytest.raises(ModelError, match="outside its folder"):
        read_card(model)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"counts": {"lowest": 5, "highest": 2}}, "counts"),
        ({"pixels": {"size": 0}}, "pixels"),
        ({"calibration": {"temperature": 0}}, r"calibration\.temperature"),
        ({"kind": "other"}, "kind"),
        ({"architecture": None}, "architecture"),
    ],
)
def test_a_damaged_card_says_where(model: Path, change: dict[str, object], what: str) -> None:
    path = model / CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change), encoding="utf-8")
    with pytest.raises(ModelError, match=f"is no model card: {what}") as error:
        read_card(model)
    assert "\n" not in str(error.value)


def test_no_card(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no model folder: it has no model\.json"):
        read_card(tmp_path)
    (tmp_path / CARD_FILE).write_bytes(b"{")
    with pytest.raises(ModelError, match="is no model card: the file"):
        read_card(tmp_path)
    (tmp_path / CARD_FILE).unlink()
    (tmp_path / CARD_FILE).mkdir()
    with pytest.raises(ModelError, match="cannot read"):
        read_card(tmp_path)
