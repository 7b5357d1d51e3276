"""The page of a tuning: every plot where there is something to plot, the best trials first, the verdict in words."""

import re
from typing import Any

import pytest

from bintally.report.tune import page, trials_table

SPACE = [
    {"name": "train.head_lr", "choices": [], "low": 1e-4, "high": 0.1, "log": True, "step": None, "grid": []},
    {"name": "train.batch_size", "choices": [32, 64], "low": 0, "high": 0, "log": False, "step": None, "grid": []},
    {"name": "model.dropout", "choices": [], "low": 0.0, "high": 0.5, "log": False, "step": None, "grid": []},
]


def found(**changes: Any) -> dict[str, Any]:
    difference = {"value": -0.0312, "low": -0.05, "high": -0.01, "seeds_margin": 0.004, "by_seed": {"1": -0.03}}
    candidate = {"trial": 3, "seeds": [1, 2], "values": [1.3, 1.32], "failed": 0, "mean": 1.31, "spread": 0.014}
    verdict = {
        "candidates": [
            {**candidate, "trial": None, "mean": None, "spread": None, "failed": 2, "values": []},
            candidate,
        ],
        "winner": 3,
        "difference": difference,
        "within_noise": False,
        "said": "trial 3 less the recipe as it was: -0.0312: better than by chance",
    }
    body = {
        "objective": "nll",
        "better": "lower",
        "space": SPACE,
        "states": {"complete": 4, "fail": 1, "pruned": 1},
        "best": {"trial": 3, "values": {"train.head_lr": 0.00123456}, "first_value": 1.3},
        "verdict": verdict,
        "importances": {"train.head_lr": 0.7, "train.batch_size": 0.1, "model.dropout": 0.2},
        "curves": {"0": [1.9, 1.5], "1": [1.6, 1.4], "2": [3.0], "3": [1.4, 1.3], "4": [1.5, 1.45], "5": []},
    }
    return body | changes


def row(number: int, state: str, value: str, reason: str = "") -> dict[str, str]:
    values = {"train.head_lr": f"{0.001 * (number + 1)}", "train.batch_size": "32" if number % 2 else "64"}
    rest = {"model.dropout": "0.25", "epochs": "2", "best_epoch": "2", "seconds": "1.5", "reason": reason}
    return {"trial": str(number), "state": state, "value": value, **values, **rest}


ROWS = [
    row(0, "complete", "1.5"),
    row(1, "complete", "1.4"),
    row(2, "pruned", "3.0"),
    row(3, "complete", "1.3"),
    row(4, "complete", "1.45"),
    row(5, "fail", "", "the loss is inf"),
]


def test_the_page_has_every_plot_and_the_verdict() -> None:
    text = page("mine", found(), ROWS)
    captions = re.findall(r"<figcaption>([^<]*)", text)
    assert [caption.split()[0].rstrip(":") for caption in captions] == [
        *("History", "Every", "Importance", "Parallel", "Slice", "Slice", "Slice"),
    ]
    assert "better than by chance" in text
    assert "0.00123" in text
    assert all(alt for alt in re.findall(r'alt="([^"]*)"', text))
    assert not re.search(r'(src|href)="https?:', text)


def test_the_best_come_first_and_the_failed_last() -> None:
    columns, lines = trials_table(found(), ROWS)
    assert columns == ["trial", "nll", "head_lr", "batch_size", "dropout", "epochs", "seconds", "ended"]
    assert [line[0] for line in lines] == ["3", "1", "4", "0", "2", "5"]
    assert lines[0][1:4] == ["1.3000", "0.004", "32"]
    assert lines[-1][1] == "–"
    assert len(trials_table(found(), ROWS, 2)[1]) == 2


def test_where_higher_is_better_the_highest_come_first() -> None:
    _, lines = trials_table(found(objective="accuracy", better="higher"), ROWS)
    assert [line[0] for line in lines] == ["0", "4", "1", "3", "2", "5"]
    assert "Slice: accuracy" in page("mine", found(objective="accuracy", better="higher"), ROWS)


@pytest.mark.parametrize("num", [0, 1])
def test_few_trials_make_a_page_too(num: int) -> None:
    body = found(verdict=None, importances={}, curves={"0": [1.9, 1.5]}, best={"trial": 0, "values": {}})
    text = page("mine", body, ROWS[:num])
    assert "not trained again" in text
    assert text.count("<figcaption>") == (6 if num else 0)


def test_names_are_escaped() -> None:
    assert "<script>" not in page("<script>", found(), ROWS)
