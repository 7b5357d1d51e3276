"""The frame: self-contained, escaped, the same bytes for the same plot."""

import base64
import io

import numpy as np
import pytest
from jinja2 import ChoiceLoader, DictLoader, UndefinedError
from PIL import Image

from bintally.report import page


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


def opened(uri: str) -> Image.Image:
    kind, data = uri.split(";base64,")
    assert kind == "data:image/jpeg"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "own.html": '{% extends "base.html" %}{% import "parts.html" as parts %}{% block title %}A <b>{% endblock %}'
        "{% block content %}{{ parts.table(['a', 'b'], rows) }}{{ share|percent }}{% endblock %}"
    }
    inner = page._environment().loader
    assert inner is not None
    made = page._environment().overlay(loader=ChoiceLoader([DictLoader(texts), inner]))
    monkeypatch.setattr(page, "_environment", lambda: made)


@pytest.mark.usefixtures("environment")
def test_a_page_escapes_what_it_is_given_and_needs_nothing_from_elsewhere() -> None:
    html = page.render("own.html", rows=[["<script>alert(1)</script>", "3"]], share=0.385)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "38.5 %" in html
    assert "http" not in html
    assert "@import" not in html
    assert html.count("<h1>") == 1


@pytest.mark.usefixtures("environment")
def test_a_forgotten_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        page.render("own.html", rows=[])


def test_the_same_plot_gives_the_same_bytes() -> None:
    def made() -> str:
        fig, (ax,) = page.figure(3, 2)
        ax.bar([0, 1], [3, 4], label="bins")
        page.add_legend(ax)
        return page.figure_uri(fig)

    assert made() == made()
    assert made().startswith("data:image/svg+xml;base64,")


def test_a_figure_of_several_axes_gives_them_row_by_row() -> None:
    _, axes = page.figure(columns=2, rows=3)
    assert len(axes) == 6


@pytest.mark.parametrize(("width", "height"), [(400, 200), (200, 400), (50, 40)])
def test_a_thumbnail_keeps_its_aspect_and_never_grows(width: int, height: int) -> None:
    small = opened(page.photo_uri(jpeg(width, height), 100))
    assert max(small.size) == min(100, max(width, height))
    assert small.width / small.height == pytest.approx(width / height, rel=0.03)


def test_a_broken_photo_is_a_placeholder() -> None:
    assert page.photo_uri(b"no photo", 64).startswith("data:image/svg+xml")


def test_figures_are_written_one_way() -> None:
    assert page.number(12345) == "12,345"
    assert page.number(1.239) == "1.24"
    assert page.number(None) == page.percent(None) == "–"
    assert page.cells([["a", 1, 2.5, None]]) == [["a", "1", "2.50", "–"]]
