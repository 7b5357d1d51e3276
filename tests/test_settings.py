from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from bintally.errors import SettingsError
from bintally.settings import as_dict, check_tables, fill, parse_assignments, read_toml


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    epochs: Annotated[int, Field(gt=0)] = 5
    rate: Annotated[float, Field(gt=0)] = 0.1
    optimizer: Literal["adam", "sgd"] = "adam"
    name: str = ""
    flip: bool = True
    sizes: tuple[int, ...] = (1, 2)
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.epochs > 100 and self.optimizer == "sgd":
            raise ValueError("that many epochs are only for adam")


def test_later_sources_win() -> None:
    file = {"train": {"epochs": 1, "rate": 0.2, "name": "file"}}
    environ = {"BINTALLY_TRAIN_EPOCHS": "2", "BINTALLY_TRAIN_RATE": "0.3", "BINTALLY_OTHER_EPOCHS": "9", "PATH": "/"}
    assert fill(Train, "train", environ={}) == Train()
    assert fill(Train, "train", file=file, environ={}) == Train(epochs=1, rate=0.2, name="file")
    assert fill(Train, "train", file=file, environ=environ) == Train(epochs=2, rate=0.3, name="file")
    flags = {"epochs": 3, "rate": None}
    assert fill(Train, "train", file=file, environ=environ, flags=flags) == Train(epochs=3, rate=0.3, name="file")


def test_the_process_s_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINTALLY_TRAIN_EPOCHS", "7")
    assert fill(Train, "train").epochs == 7


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("flip", "false", False),
        ("sizes", "[3, 4]", (3, 4)),
        ("name", "7", "7"),
        ("name", "seed run", "seed run"),
        ("rate", "1e-3", 1e-3),
        ("optimizer", "sgd", "sgd"),
        ("limit", "4", 4),
    ],
)
def test_strings_are_read_as_what_the_field_is(key: str, text: str, value: object) -> None:
    assert getattr(fill(Train, "train", environ={}, flags={key: text}), key) == value


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"epochs": 0}, r"train\.epochs = 0: input should be greater than 0"),
        ({"epochs": "many"}, r"train\.epochs = 'many'"),
        ({"epochs": 2.5}, r"train\.epochs = 2\.5"),
        ({"optimizer": "lion"}, r"train\.optimizer = 'lion'"),
        ({"epoch": 3}, r"unknown setting train\.epoch; did you mean 'epochs'\?"),
        ({"xyz": 3}, "known are epochs, flip"),
        ({"epochs": 101, "optimizer": "sgd"}, r"\[train\]: that many epochs"),
    ],
)
def test_what_does_not_fit_names_key_and_source(values: dict[str, object], what: str) -> None:
    with pytest.raises(SettingsError, match=what) as error:
        fill(Train, "train", file={"train": values}, file_name="seed.toml", environ={})
    assert error.value.exit_code == 2
    if "101" not in str(values):
        assert str(error.value).startswith("seed.toml")
    assert "\n" not in str(error.value)


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(SettingsError, match=r"the variable BINTALLY_TRAIN_EPOCHS: train\.epochs = '-1'"):
        fill(Train, "train", environ={"BINTALLY_TRAIN_EPOCHS": "-1"})
    with pytest.raises(SettingsError, match="the variable BINTALLY_TRAIN_EPOCH: unknown setting"):
        fill(Train, "train", environ={"BINTALLY_TRAIN_EPOCH": "1"})


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[train]\nepochs = 3\n", encoding="utf-8")
    assert read_toml(path) == {"train": {"epochs": 3}}
    path.write_text("epochs = 3\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="'epochs' stands outside a table"):
        read_toml(path)
    path.write_text("[train\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="is no TOML"):
        read_toml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no TOML"):
        read_toml(path)
    with pytest.raises(SettingsError, match=r"cannot read the settings file .*none\.toml: No such file"):
        read_toml(tmp_path / "none.toml")


def test_unknown_tables() -> None:
    check_tables({"train": {}}, {"train": Train}, "a.toml")
    with pytest.raises(SettingsError, match=r"a\.toml: unknown table \[trian\]; did you mean 'train'\?"):
        check_tables({"trian": {}}, {"train": Train}, "a.toml")


def test_assignments() -> None:
    words = ["train.epochs=3", "train.batch-size = 4", "model.backbone=a=b", "train.name="]
    assert parse_assignments(words) == {
        "train": {"epochs": "3", "batch_size": "4", "name": ""},
        "model": {"backbone": "a=b"},
    }
    for word in ("train.epochs", "epochs=3", "=3", ".a=3", "train.=3"):
        with pytest.raises(SettingsError, match="write it as"):
            parse_assignments([word])


def test_as_dict_comes_back() -> None:
    settings = Train(sizes=(5, 6), limit=3)
    assert as_dict(settings)["sizes"] == [5, 6]
    assert fill(Train, "train", file={"train": as_dict(settings)}, environ={}) == settings
