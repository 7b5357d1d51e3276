"""Recipes: those that come with bintally are whole, files and flags fill them, mistakes are named."""

from pathlib import Path

import pytest

from bintally.errors import SettingsError
from bintally.learn.recipe import Recipe, read_recipe, recipe_names


def test_every_recipe_that_comes_with_bintally_is_known_in_full() -> None:
    assert {"best", "seed", "demo"} <= set(recipe_names())
    for name in recipe_names():
        assert isinstance(read_recipe(name, environ={}), Recipe)


def test_seed_is_what_the_course_does() -> None:
    seed = read_recipe("seed", environ={})
    assert seed.model.backbone == "microsoft/resnet-50"
    assert (seed.model.unfrozen_stages, seed.train.optimizer, seed.train.loss) == (0, "adam", "cross-entropy")


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[train]\nepochs = 3\nseed = 4\nbatch_size = 5\n[pixels]\nsize = 64\n")
    environ = {"BINTALLY_TRAIN_SEED": "7", "BINTALLY_TRAIN_BATCH_SIZE": "8"}
    got = read_recipe(tmp_path / "mine.toml", {"train": {"batch_size": "9", "epochs": None}}, environ=environ)
    assert (got.train.epochs, got.train.seed, got.train.batch_size, got.pixels.size) == (3, 7, 9, 64)
    assert read_recipe(None, environ={}) == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nepoch = 3", r"mine\.toml: unknown setting train\.epoch; did you mean 'epochs'"),
        ("[trian]\nepochs = 3", r"unknown table \[trian\]"),
        ("[train]\nepochs = 0", r"train\.epochs = 0"),
        ("[train]\noptimizer = 'lion'", r"train\.optimizer = 'lion'"),
        ("[augment]\nshift = 1.5", r"augment\.shift"),
        ("[pixels]\nsize = 0", "an input of 0 pixels"),
        ("epochs = 3", "outside a table"),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_recipe(str(tmp_path / "mine.toml"), environ={})


def test_unknown_recipes_and_flags(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no recipe 'sed': take .*demo.*seed"):
        read_recipe("sed", environ={})
    with pytest.raises(SettingsError, match=r"--set: unknown table \[modle\]"):
        read_recipe("seed", {"modle": {"backbone": "tiny"}}, environ={})


def test_sizes_are_drawn_or_grow() -> None:
    drawn = {"train": {"sizes": [96, 128], "start_size": 0}}
    assert read_recipe("best", drawn, environ={}).train.sizes == (96, 128)
    with pytest.raises(SettingsError, match=r"leave one out, as in --set train\.start_size=0"):
        read_recipe(None, {"train": {"sizes": [96, 128], "start_size": 64}}, environ={})
    with pytest.raises(SettingsError, match=r"train\.sizes"):
        read_recipe(None, {"train": {"sizes": [16]}}, environ={})


def test_tables_are_json_of_every_setting() -> None:
    tables = Recipe().tables()
    assert tables["train"]["epochs"] == 10
    assert tables["pixels"]["mean"][0] == 0.485
