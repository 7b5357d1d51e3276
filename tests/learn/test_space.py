"""The search space: read, checked, sampled, and written down again."""

import math
import tomllib
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.errors import SettingsError
from bintally.learn.space import Dimension, nest, read_space, write_toml

TEXT = """
[train]
learning_rate = { low = 1e-4, high = 0.1, log = true }
batch_size = { choices = [32, 64] }
epochs = { low = 2, high = 8, step = 2 }
optimizer = ["adam", "sgd"]
[model]
dropout = { low = 0.0, high = 0.5, grid = [0.0, 0.3] }
"""


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.space.toml"
    path.write_text(TEXT)
    return path


def test_reads_ranges_and_choices(space_file: Path) -> None:
    space = read_space(space_file)
    names = [one.name for one in space.dimensions]
    assert names == ["train.learning_rate", "train.batch_size", "train.epochs", "train.optimizer", "model.dropout"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        values = space.suggest(study.ask())
        assert space.holds(values)
        assert isinstance(values["train.epochs"], int)
    assert not space.holds({})
    assert not space.holds(dict(values, **{"train.batch_size": 48}))


def test_a_grid_has_every_corner(space_file: Path) -> None:
    grid = read_space(space_file).grid()
    assert grid["train.learning_rate"] == pytest.approx([1e-4, 5.62341e-4, 3.16228e-3, 1.77828e-2, 0.1])
    assert grid["train.epochs"] == [2, 4, 6, 8]
    assert grid["model.dropout"] == [0.0, 0.3]
    assert grid["train.optimizer"] == ["adam", "sgd"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("0.1", "is one value"),
        ("{ low = 1 }", "a range has low and high"),
        ("{ low = 2, high = 1 }", "span no range"),
        ("{ low = 0.0, high = 1.0, log = true }", "starts above 0"),
        ("{ low = 1, high = 2, choices = [1] }", "either low and high, or choices"),
        ("{ lowest = 1, high = 2 }", "unknown 'lowest'"),
        ("{ choices = [] }", "a list of values"),
        ("{ choices = [1, 1] }", "stands there twice"),
        ("{ choices = [[1]] }", "unhashable"),
        ('{ low = "1", high = 2 }', "is no number"),
        ("{ low = 0.0, high = inf }", "span no range"),
        ("{ low = 2, high = 9, step = 2 }", "is not reached"),
        ("{ low = 1, high = 2, log = 1 }", "log is true or false"),
        ("{ low = 1, high = 2, step = 0 }", "a step is above 0"),
    ],
)
def test_a_key_that_cannot_be_searched_is_named(tmp_path: Path, entry: str, problem: str) -> None:
    path = tmp_path / "a.space.toml"
    path.write_text(f"[train]\nlearning_rate = {entry}\n")
    with pytest.raises(SettingsError, match=r"a\.space\.toml: train\.learning_rate") as caught:
        read_space(path)
    assert problem in str(caught.value)


def test_an_empty_space_says_how_to_write_one(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    with pytest.raises(SettingsError, match="names nothing to search"):
        read_space(tmp_path / "a.toml")


@given(low=st.floats(1e-9, 1e3), factor=st.floats(1.01, 1e6), log=st.booleans())
def test_grid_points_lie_in_the_range(low: float, factor: float, log: bool) -> None:
    one = Dimension(name="a.b", low=low, high=low * factor, log=log)
    points = one.points()
    assert all(one.holds(point) for point in points)
    assert math.isclose(points[0], low, rel_tol=1e-5)  # type: ignore[arg-type]


plain = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text())
keys = st.from_regex(r"[a-z][a-z_0-9]{0,5}", fullmatch=True)


@given(st.dictionaries(keys, st.dictionaries(keys, st.one_of(plain, st.lists(plain)))))
def test_toml_reads_back(tables: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(write_toml(tables, head="made\nby hand")) == tables


def test_nest() -> None:
    assert nest({"a.b": 1, "a.c": 2, "d.e": "x"}) == {"a": {"b": 1, "c": 2}, "d": {"e": "x"}}
