"""A person's answers are read strictly, and held against records and counter."""

from pathlib import Path

import numpy as np
import pytest

from bintally.errors import RunError
from bintally.learn.by_eye import form, judged, read_answers
from bintally.scores import Predictions


def filled(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "answers.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_form_is_read_back(tmp_path: Path) -> None:
    text = form(["00001", "00002"], [("00003", "00004"), ("00005", "00006")])
    assert text.splitlines()[:2] == ["photo,other,answer", "00001,,"]
    assert read_answers(filled(tmp_path, text)).counts == {}
    answered = text.replace("00002,,", "00002,, 4").replace("00005,00006,", "00005,00006,no")
    found = read_answers(filled(tmp_path, answered))
    assert found.counts == {"00002": 4}
    assert found.changes == {("00005", "00006"): False}


@pytest.mark.parametrize(
    ("line", "why"), [("1,,many", "whole number"), ("1,,-2", "whole number"), ("1,2,perhaps", "yes or no")]
)
def test_what_is_no_answer(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(RunError, match=f"line 2.*{why}"):
        read_answers(filled(tmp_path, f"photo,other,answer\n{line}\n"))


def test_what_is_no_form(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="first line"):
        read_answers(filled(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(RunError, match="cannot read"):
        read_answers(tmp_path / "gone.csv")


def test_answers_are_held_against_records_and_counter(tmp_path: Path) -> None:
    said = Predictions(probabilities=np.eye(6)[[1, 2, 3, 3]], true_counts=np.array([1, 2, 4, 5]))
    lines = ["photo,other,answer", "a,,1", "b,,3", "c,,4", "d,,2", "not scored,,1", "p,q,yes", "r,s,no"]
    answers = read_answers(filled(tmp_path, "\n".join(lines)))
    found = judged(answers, ["a", "b", "c", "d"], said, np.array([0, 0.25, 0.25, 0, 0.25, 0.25]))
    assert found["counted"]["photos"] == 4
    assert found["counted"]["accuracy"]["value"] == 0.5
    assert found["counted"]["within_one"]["value"] == 0.75
    assert found["counted"]["fewer"]["value"] == found["counted"]["more"]["value"] == 0.25
    assert found["counted"]["counter"]["value"] == 0.5
    assert found["changes"]["unseen"]["value"] == 0.5
    accuracy = found["changes"]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    nothing = judged(read_answers(filled(tmp_path, "photo,other,answer\n")), ["a"], said, np.ones(6))
    assert nothing == {"counted": None, "changes": None}
