"""The page of an examination stands alone, tells what was found, and lets nothing from a record into its markup."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bintally.errors import RunError
from bintally.report.examination import (
    examination_page,
    read_examination,
    summary_tables,
    write_form_page,
    write_page,
)


def ends(value: float, *, known: bool = True) -> dict[str, float | None]:
    return {"value": value, "low": value - 0.1 if known else None, "high": value + 0.1 if known else None}


def photo(name: str = "00001") -> dict[str, Any]:
    items = [{"name": "<script>alert(1)</script>", "quantity": 2}]
    return {"photo_id": name, "uri": f"bin-images/{name}.jpg", "label": 2, "blur": 99.0, "items": items}


def answer() -> dict[str, Any]:
    return {
        "likeliest": 4,
        "expected": 3.7,
        "probability": 0.7,
        "probability_of_label": 0.01,
        "probabilities": [0.0, 0.1, 0.1, 0.1, 0.7, 0.0],
    }


def examined(tmp_path: Path) -> dict[str, Any]:
    """An examination as `bintally examine` writes it."""
    (tmp_path / "bin-images").mkdir()
    Image.new("RGB", (300, 200), (200, 0, 0)).save(tmp_path / "bin-images" / "00001.jpg")
    mask = {"drop": ends(0.2), "changed": ends(0.3), "shift": ends(-0.4), "moved": ends(0.5)}
    mapped = photo() | answer()
    mapped |= {"evidence": [[0.0, 1.0], [-1.0, 0.5]], "without": {"hottest": {"expected": 2.22, "likeliest": 2}}}
    row = {"name": "0 to 1", "photos": 20, "groups": 9, "mean_count": 2.5}
    row |= dict.fromkeys(("accuracy", "within_one", "nll", "bias_expected", "accuracy_beyond"), ends(0.4))
    lone = row | {"name": "alone", "accuracy": ends(0.4, known=False)}
    masks = dict.fromkeys(("hottest", "coldest", "elsewhere"), mask)
    less = {f"hottest_less_{one}": {"drop": ends(0.15)} for one in ("coldest", "elsewhere")}
    return {
        "format": 1,
        "folder": str(tmp_path / "run"),
        "model": {
            "id": "abc",
            "architecture": "tiny",
            "counts": "0-5",
            "names": list("012345"),
            "lowest": 0,
            "size": 64,
            "fit": "pad",
            "licence": "CC BY-NC-SA 3.0 US",
        },
        "manifest": {"root": str(tmp_path), "digest": "d"},
        "part": "test",
        "settings": {"share": 0.1},
        "photos": {"examined": 120, "groups": 60},
        "figures": {name: ends(0.36) for name in ("accuracy", "within_one", "nll", "bias_expected")},
        "slices": [{"name": "blur", "about": "How blurred it is.", "rows": [row, lone]}],
        "maps": {
            "photos": 12,
            "agree": 1.0,
            "deletion": [{"of": "all", "photos": 12} | masks | less],
            "regions": [{"name": "rim", "evidence": ends(0.3), "area": ends(0.4), "more": ends(-0.1)}],
            "mean": {"right": [[0.1, 0.2], [0.3, 0.4]]},
            "right": [mapped],
            "wrong": [mapped | {"photo_id": "00002", "uri": "bin-images/gone.jpg"}],
        },
        "labels": {
            "photos": 200,
            "parts": ["calibration", "test"],
            "joint": {"counts": [0, 1], "confident": [[5, 1], [2, 192]], "noise": 0.65},
            "planted": [{"off": 1, "planted": 10, "found": 0.3, "times": 3.0, "noise": 0.66, "before": 0.65}],
            "surprises": [{"below": 0.01, "seen": ends(0.02), "expected": ends(0.01), "excess": ends(0.01)}],
            "suspects": [photo() | answer() | {"part": "test"}],
        },
        "limits": {
            "look_alikes": {"sets": 2, "photos": 4, "differing": 2, "accuracy_there": 0.5, "accuracy": 0.99},
            "hidden": [{"hidden": 0.1, "accuracy": 0.77}],
            "as_if_hidden": 0.4,
            "published": [{"who": "someone", "counts": "0-5", "accuracy": 0.557, "split": "shuffled"}],
            "by_eye": None,
        },
        "by_eye": {"photos": [photo()], "pairs": [{"fewer": photo(), "more": photo("00003"), "what": "a cup"}]},
    }


def test_the_page_tells_what_was_found(tmp_path: Path) -> None:
    page = examination_page(examined(tmp_path))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    for said in (
        "the hottest part",
        "By blur",
        "beyond count",
        "0 to 1",
        "65.0 %",
        "+20.0 (10.0 to 30.0)",
        "someone",
    ):
        assert said in page, said
    assert (
        page.count("data:image/jpeg") == 4
    )  # a photo, its map, the mean map and a suspect; the lost ones are crossed
    assert page.count("data:image/svg+xml") == 2


def test_a_persons_answers_are_on_it(tmp_path: Path) -> None:
    found = examined(tmp_path)
    names = ("accuracy", "within_one", "fewer", "more", "counter")
    found["limits"]["by_eye"] = {
        "counted": {"photos": 48} | {name: ends(0.5) for name in names},
        "changes": {"pairs": 40, "unseen": ends(0.2), "accuracy": ends(0.6)},
    }
    page = examination_page(found)
    assert "a person on 48 of these photos" in page
    assert "of 40 pairs" in page
    assert "60 (50 to 70)" in page


def test_the_form_tells_no_label(tmp_path: Path) -> None:
    found = examined(tmp_path)
    (tmp_path / "examination.json").write_text(json.dumps(found))
    write_form_page(tmp_path, tmp_path / "form.html")
    form = (tmp_path / "form.html").read_text(encoding="utf-8")
    assert "00001" in form
    assert "00003" in form
    for told in ("a cup", "script", "record 2"):
        assert told not in form


def test_tables_for_a_terminal_are_rectangular(tmp_path: Path) -> None:
    for title, columns, rows in summary_tables(examined(tmp_path)):
        assert title
        assert rows
        assert all(len(row) == len(columns) for row in rows), title


def test_what_is_no_examination(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `bintally examine` first"):
        write_page(tmp_path, tmp_path / "page.html")
    for text in ("{", "[]", '{"format": 2}'):
        (tmp_path / "examination.json").write_text(text)
        with pytest.raises(RunError, match="again"):
            read_examination(tmp_path)
