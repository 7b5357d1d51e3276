import pytest

from bintally.cloud.hyperparameters import SHORT, TABLES, Asked, parse_hyperparameters
from bintally.errors import SettingsError


def test_none_are_the_usual_training() -> None:
    assert parse_hyperparameters({}) == Asked(recipe="seed")


def test_all_kinds() -> None:
    asked = parse_hyperparameters(
        {
            "recipe": "demo",
            "epochs": "5",
            "train.head-lr": "0.001",
            "model.unfrozen_stages": "1",
            "precision": "int8",
            "watch": "True",
            "stop-on": "ExplodingTensor, DeadRelu",
            "watch_rules": "counting",
            "profile": "1",
            "log": "tensorboard",
        }
    )
    assert asked.recipe == "demo"
    assert asked.tables == {
        "train": {"epochs": "5", "head_lr": "0.001"},
        "model": {"unfrozen_stages": "1"},
        "export": {"precision": "int8"},
    }
    assert (asked.watch, asked.watch_rules, asked.profile) == (True, "counting", True)
    assert asked.stop_on == ("ExplodingTensor", "DeadRelu")
    assert asked.log == ("tensorboard",)


def test_rules_that_stop_ask_for_watching() -> None:
    assert parse_hyperparameters({"stop-on": "ExplodingTensor"}).watch
    assert parse_hyperparameters({"watch-rules": "counting"}).watch


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"epoch": "5"}, r"the hyperparameter 'epoch' is not known; did you mean 'epochs'\?"),
        ({"trian.epochs": "5"}, r"'trian\.epochs' is not known; did you mean"),
        ({"xyzzy": "5"}, r"'xyzzy' is not known: known are backbone, batch_size, .* of the tables model, train"),
        ({"train.": "5"}, "is not known"),
        ({"epochs": "5", "train.epochs": "6"}, r"train\.epochs is given twice"),
        ({"watch": "perhaps"}, "the hyperparameter watch is true or false, not 'perhaps'"),
    ],
)
def test_what_is_not_known_is_an_error(raw: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parse_hyperparameters(raw)


def test_short_names_stand_for_keys_that_exist() -> None:
    import dataclasses

    from bintally.learn.export import ExportSettings
    from bintally.learn.recipe import Recipe

    recipe = Recipe()
    for table, key in SHORT.values():
        assert table in TABLES
        settings = ExportSettings() if table == "export" else getattr(recipe, table)
        assert key in {one.name for one in dataclasses.fields(settings)}


def test_every_table_of_a_recipe_may_be_named() -> None:
    import dataclasses

    from bintally.learn.recipe import Recipe

    assert {one.name for one in dataclasses.fields(Recipe)} <= set(TABLES)
