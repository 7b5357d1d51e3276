"""The page stands alone, shows what evaluation.json says, and lets nothing from a photo's record into its markup."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bintally import calibration, resampling, scores
from bintally.errors import RunError
from bintally.report.evaluation import best_of, evaluation_page, read_evaluation, summary_table, write_page


def scope(name: str, said: scores.Predictions, counts: str) -> dict[str, Any]:
    ends = {
        key: {"value": one.value, "low": one.low, "high": one.high}
        for key, one in resampling.bootstrap(said, [str(k) for k in range(len(said))], resamples=100).items()
    }
    error = {"error": 0.08, "chance_mean": 0.03, "chance_high": 0.05}
    kept = scores.coverage(said)
    figures = {
        "figures": ends,
        "mean_confidence": 0.5,
        "calibration_error": {"width": error, "mass": error},
        "reliability": [
            {"confidence": one.confidence, "accuracy": one.accuracy}
            for one in calibration.reliability(said, num_bins=5)
        ],
        "coverage": {
            "risk_area": kept.risk_area,
            "accuracy_at": {"50%": 0.6, "100%": 0.5},
            "curve": [[float(a), float(b)] for a, b in zip(kept.coverage, kept.accuracy, strict=True)],
        },
        "per_count": [
            {name: getattr(row, name) for name in row.__dataclass_fields__} for row in scores.per_count(said)
        ],
        "confusion": scores.confusion(said).tolist(),
    }
    blind = {key: one["value"] for key, one in ends.items()}
    return {
        "name": name,
        "counts": counts,
        "how": f"how {name}",
        "num_photos": len(said),
        "num_groups": len(said),
        "raw": figures,
        "calibrated": figures,
        "blind": {"figures": blind, "majority": 2},
        "gain": ends,
    }


def evaluated(tmp_path: Path) -> dict[str, Any]:
    """An evaluation as `bintally evaluate` writes it."""
    (tmp_path / "bin-images").mkdir()
    Image.new("RGB", (300, 200), (200, 0, 0)).save(tmp_path / "bin-images" / "00001.jpg")
    luck = np.random.default_rng(0)
    labels = luck.integers(0, 6, 120)
    said = scores.Predictions(
        probabilities=scores.softmax(luck.normal(size=(120, 6)) + np.eye(6)[labels]), true_counts=labels
    )
    mistake = {
        "photo_id": "00001",
        "uri": "bin-images/00001.jpg",
        "label": 2,
        "likeliest": 4,
        "expected": 3.7,
        "probability": 0.7,
        "probability_of_label": 0.1,
        "probabilities": [0.0, 0.1, 0.1, 0.1, 0.7, 0.0],
        "blur": 1.0,
        "items": [{"name": "<script>alert(1)</script>", "quantity": 2}],
    }
    return {
        "format": 1,
        "folder": str(tmp_path / "run"),
        "model": {
            "id": "abc",
            "kind": "trained",
            "architecture": "tiny",
            "precision": "float32",
            "counts": "0-5",
            "names": list("012345"),
            "lowest": 0,
            "code_version": "0.1.0",
            "licence": "CC BY-NC-SA 3.0 US",
        },
        "manifest": {
            "root": str(tmp_path),
            "digest": "d" * 64,
            "split": {"counts": "0-5", "seed": 0, "shuffled": False, "photos": {"train": 1200, "test": 120}},
        },
        "part": "test",
        "photos": {
            "scored": 120,
            "groups": 120,
            "unlabelled": 0,
            "out_of_range": 0,
            "trained_on": 0,
            "sibling_in_training": 0,
            "unreadable": [{"photo_id": "00007", "reason": "the file is empty"}],
        },
        "calibration": {"temperature": 1.25, "num_photos": 90},
        "warnings": ["120 photos are few"],
        "scopes": [scope("own", said, "0-5")],
        "worst": [mistake, mistake | {"photo_id": "00002", "uri": "bin-images/gone.jpg", "items": []}],
        "published": [
            {
                "who": "abid_challenge",
                "counts": "0-5",
                "data": "all",
                "model": "ResNet34",
                "split": "shuffled",
                "leaks": True,
                "accuracy": [0.557, 0.557],
                "rmse": 0.93,
                "per_count": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            },
            {
                "who": "projects",
                "counts": "1-5",
                "data": "10,441",
                "model": "ResNet50",
                "split": "shuffled",
                "leaks": True,
                "accuracy": [0.26, 0.36],
                "rmse": None,
                "per_count": [],
            },
        ],
        "looks": [{"at": "2026-11-22"}, {"at": "2026-11-23"}],
    }


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    return evaluated(tmp_path)


def test_the_page_stands_alone(found: dict[str, Any]) -> None:
    page = evaluation_page(found)
    assert not re.search(r"<script|<link|@import|url\(", page)
    for target in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert target.startswith("data:image/")
    assert page.count("<img") == 3 + 2
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))


def test_the_page_says_what_was_found(found: dict[str, Any]) -> None:
    page = evaluation_page(found)
    accuracy = found["scopes"][0]["calibrated"]["figures"]["accuracy"]["value"]
    for text in (
        f"{100 * accuracy:.1f} %",
        *("temperature 1.25", "120 photos are few", "abid_challenge", "26 to 36 %", "00007: the file is empty"),
        *("was scored 2 times", "CC BY-NC-SA", "0.03", "1,200 train", "record 2, counted 4", "no item on record"),
    ):
        assert text in page, text
    assert "&lt;script&gt;" in page


def test_an_evaluation_without_temperature_or_mistakes(found: dict[str, Any]) -> None:
    found["scopes"][0]["calibrated"] = None
    found |= {"calibration": None, "worst": [], "warnings": [], "manifest": found["manifest"] | {"split": None}}
    page = evaluation_page(found)
    assert "no temperature was fitted" in page
    assert "There was none" in page
    assert "The manifest has no split" in page
    assert best_of(found["scopes"][0]) is found["scopes"][0]["raw"]


def test_a_shuffled_split_is_said_so(found: dict[str, Any]) -> None:
    found["manifest"]["split"]["shuffled"] = True
    assert "siblings leak" in evaluation_page(found)


@pytest.mark.parametrize(
    ("history", "shown"),
    [
        ("epoch,train_loss,validation_loss,validation_accuracy\n0,1.5,1.4,0.3\n1,1.2,1.3,\n", True),
        ("epoch,train_loss\n0,1.5\n", False),
        ("", False),
        ("a,b\n1,2\n2,3\n", False),
    ],
)
def test_the_written_page_has_curves_where_there_is_a_history(
    found: dict[str, Any], tmp_path: Path, history: str, shown: bool
) -> None:
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    (tmp_path / "run" / "history.csv").write_text(history, encoding="utf-8")
    write_page(folder, folder / "evaluation.html")
    assert ("Learning curves" in (folder / "evaluation.html").read_text(encoding="utf-8")) is shown


def test_what_is_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `bintally evaluate` first"):
        read_evaluation(tmp_path)
    for text in ("{", "[]", '{"format": 9}'):
        (tmp_path / "evaluation.json").write_text(text, encoding="utf-8")
        with pytest.raises(RunError, match="run `bintally evaluate` again"):
            read_evaluation(tmp_path)


def test_the_table_for_a_terminal(found: dict[str, Any]) -> None:
    ((title, columns, rows),) = summary_table(found)
    assert title == "120 photos of test, counts 0-5, how own"
    assert {len(row) for row in rows} == {len(columns)}
    assert rows[-1][:3] == ["calibration error", "0.080", "0.030 by chance"]
