"""The page of a summary, made from plain values only."""

import io
import re
from typing import Any

import pytest
from PIL import Image

from bintally.report.summary import summary_page


def photo(name: str) -> bytes | None:
    if name == "gone":
        return None
    out = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 180, 60)).save(out, "JPEG")
    return out.getvalue()


def summarised() -> dict[str, Any]:
    """A summary as `bintally summary --json` tells it."""
    pair = {"bits": 3, "photos": ["1", "2"], "labels": [3, None]}
    part = {"photos": 1, "share": 0.25, "groups": 1, "per_class": [0, 1]}
    spread = {"lowest": 100, "median": 150.0, "highest": 2000}
    return {
        "root": "/bins/<b>",
        "digest": "abcdef0123456789",
        "photos": 4,
        "labelled": 3,
        "counts": {
            "classes": [{"name": "0", "photos": 1, "share": 0.25}, {"name": "10+", "photos": 3, "share": 0.75}],
            "exact": {"0": 1, "50": 3},
            "over_five": 3,
            "over_five_share": 0.75,
            "mean": 37.5,
            "median": 50.0,
            "highest": 50,
            "by_review": 1,
        },
        "quantities": {"units_per_product": {"1": 2, "9": 1}, "products_per_bin": {"0": 1, "2": 2}},
        "records": {
            "without": 1,
            "items": 4,
            "products": 3,
            "sum_differs": {"number": 1, "listed": [{"photo_id": "2", "expected": 4, "sum": 3}]},
            "missing_size": 1,
            "missing_weight": 1,
            "missing_name": 0,
            "packs": 1,
            "packs_share": 0.25,
        },
        "sizes": {
            "width": spread,
            "height": spread,
            "bytes": spread,
            "common": [{"width": 100, "height": 90, "photos": 3}, {"width": 2000, "height": 1000, "photos": 1}],
        },
        "blur": {
            "below": 60.0,
            "blurred": 1,
            "share": 0.25,
            "percentiles": {"50": 100.0},
            "histogram": {"edges": [1.0, 10.0, 100.0, 1000.0], "photos": [0, 3, 1]},
        },
        "duplicates": {
            "exact": {"number": 1, "listed": [["1", "3"]]},
            "near": {"number": 1, "labels_differ": 1, "bits": 48, "searched": "all pairs", "listed": [pair]},
        },
        "series": {
            "neighbours": 3,
            "sharing_an_item": 1,
            "either_empty": 1,
            "only_removed": 1,
            "only_added": 0,
            "groups": 3,
            "photos_with_sibling": 2,
            "sibling_share": 0.5,
            "longest": 2,
            "lengths": {"1": 2, "2": 1},
        },
        "split": {
            "counts": "0-1",
            "seed": 0,
            "shuffled": True,
            "classes": ["0", "1"],
            "parts": {"train": part, "test": part},
            "kept": 2,
            "left_out": 2,
            "leaking_test_photos": 1,
            "leaking_share": 0.5,
            "groups": {},
        },
        "problems": {"number": 300, "listed": [{"photo_id": "9", "what": "<script>alert(1)</script>"}]},
        "examples": {
            "by_count": [{"name": "0", "photos": ["1", "gone"]}, {"name": "10+", "photos": []}],
            "blurred": ["2"],
            "disputed": [pair],
        },
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    return summarised()


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(summary: dict[str, Any]) -> None:
    html = summary_page(summary, photo)
    assert "<script" not in html
    assert "/bins/&lt;b&gt;" in html
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', html))
    assert html.count("data:image/jpeg") == 1 + 1 + 2
    assert html.count("data:image/svg+xml;base64") == 6
    assert all(re.findall(r"<img[^>]*alt=\"([^\"]+)\"", tag) for tag in re.findall(r"<img[^>]*>", html))
    for words in ("(50.0 %) have a sibling in train", "1 = 3", "300 photos or records", "1: 3 · 2: –", "a person"):
        assert words in re.sub(r"\s+", " ", html)


def test_a_bare_dataset(summary: dict[str, Any]) -> None:
    summary["split"] = None
    summary["problems"] = {"number": 0, "listed": []}
    summary["counts"] |= {"mean": None, "median": None, "highest": None, "exact": {}, "over_five_share": None}
    summary["quantities"] = {"units_per_product": {}, "products_per_bin": {}}
    summary["sizes"]["common"] = summary["sizes"]["common"][:1]
    summary["examples"] = {"by_count": [], "blurred": [], "disputed": []}
    html = summary_page(summary, photo)
    assert "The split" not in html
    assert "every photo can be read" in html
    assert html.count("data:image/svg+xml;base64") == 2
