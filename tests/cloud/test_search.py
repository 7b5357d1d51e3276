import tomllib

import pytest

from bintally.cloud.search import Varied, as_text, parameter_ranges
from bintally.errors import SettingsError

RATE = Varied(name="train.head_lr", low=1e-4, high=1e-1, log=True, points=(1e-4, 1e-2, 1e-1))
EPOCHS = Varied(name="train.epochs", low=2, high=10, points=(2, 6, 10))
BATCH = Varied(name="train.batch_size", choices=(32, 64), points=(32, 64))
STEPPED = Varied(name="train.patience", low=0, high=10, stepped=True, points=(0, 5, 10))


def test_ranges_and_lists() -> None:
    found = parameter_ranges([RATE, EPOCHS, BATCH], "Bayesian")
    assert found.ranges == {
        "ContinuousParameterRanges": [
            {"Name": "train.head_lr", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}
        ],
        "IntegerParameterRanges": [
            {"Name": "train.epochs", "MinValue": "2", "MaxValue": "10", "ScalingType": "Linear"}
        ],
        "CategoricalParameterRanges": [{"Name": "train.batch_size", "Values": ["32", "64"]}],
    }
    assert found.names == ("train.head_lr", "train.epochs", "train.batch_size")
    assert (found.size, found.notes) == (0, ())


def test_what_it_has_no_words_for_is_said() -> None:
    stepped = parameter_ranges([STEPPED], "Random")
    assert stepped.ranges == {"CategoricalParameterRanges": [{"Name": "train.patience", "Values": ["0", "5", "10"]}]}
    assert "knows no steps" in stepped.notes[0]
    grid = parameter_ranges([RATE, BATCH], "Grid")
    assert [one["Values"] for one in grid.ranges["CategoricalParameterRanges"]] == [
        ["0.0001", "0.01", "0.1"],
        ["32", "64"],
    ]
    assert grid.size == 6
    assert "lists alone" in grid.notes[0]


def test_limits() -> None:
    long = Varied(name="train.seed", low=0, high=99, stepped=True, points=tuple(range(0, 99, 2)))
    with pytest.raises(SettingsError, match=r"train.seed: 50 values; the service takes 30 at most.*knows no steps"):
        parameter_ranges([long], "Bayesian")
    with pytest.raises(SettingsError, match="31 settings vary"):
        parameter_ranges([RATE] * 31, "Bayesian")


@pytest.mark.parametrize("value", [True, False, 3, 0.25, 1e-5, 1e22, "adamw", [0.4, 0.5], ["a", 'b"c']])
def test_texts_read_back_to_equal_values(value: object) -> None:
    text = as_text(value)  # type: ignore[arg-type]
    assert (text if isinstance(value, str) else tomllib.loads(f"value = {text}")["value"]) == value
