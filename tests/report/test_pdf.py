"""The PDF holds what the page holds, and needs nothing but Typst."""

import re
import sys
from pathlib import Path

import pytest

from bintally.errors import MissingExtraError
from bintally.report.course import course_report
from bintally.report.document import Document, Paragraph, Picture, Pictures, Section, table
from bintally.report.pdf import pdf_of, write_pdf
from tests.report import made


def num_pages(pdf: bytes) -> int:
    counts = [
        int(one)
        for one in re.findall(rb"/Type\s*/Pages[^>]*?/Count\s+(\d+)|/Count\s+(\d+)[^>]*?/Type\s*/Pages", pdf)
        for one in one
        if one
    ]
    return max(counts)


def document(*blocks: object) -> Document:
    section = Section(anchor="a", title="A", blocks=blocks)  # type: ignore[arg-type]
    return Document(title="T", lead="L", summary=(), sections=(section,), foot="")


def test_a_whole_report_becomes_a_pdf(tmp_path: Path) -> None:
    write_pdf(course_report(made.whole(tmp_path)), tmp_path / "report.pdf")
    pdf = (tmp_path / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert num_pages(pdf) >= 4
    assert not list(tmp_path.glob(".*.part"))


def test_a_run_that_was_only_trained_becomes_one(tmp_path: Path) -> None:
    assert pdf_of(course_report(made.bare(tmp_path))).startswith(b"%PDF-")


def test_words_are_words_and_no_markup(tmp_path: Path) -> None:
    nasty = '#import "x.typ" $a_b$ *bold* <label> @ref \\ #panic() `code` and 3` "quoted" // no comment'
    shown = Picture(uri="", alt=nasty, title=nasty, lines=(nasty,))
    made_of = document(
        Paragraph(text=nasty, tone="warn"), table([nasty, "b"], [[nasty, 1]], nasty), Pictures(pictures=(shown,))
    )
    assert pdf_of(made_of).startswith(b"%PDF-")


def test_a_photo_that_is_not_at_hand_leaves_a_place(tmp_path: Path) -> None:
    from bintally.report.page import photo_uri

    gone = Picture(uri=photo_uri(b"", 100), alt="bin 1", title="1")
    assert pdf_of(document(Pictures(pictures=(gone,)))).startswith(b"%PDF-")


def test_without_typst_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(MissingExtraError, match=r"bintally\[pdf\]"):
        pdf_of(document())
