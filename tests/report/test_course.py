"""The whole report: every chapter, a page that stands alone, nothing from a record in its markup."""

import re
from pathlib import Path

from bintally.report.course import course_page, course_report
from tests.report import made

CHAPTERS = (
    *("definition", "data", "method", "benchmark", "tuning", "training", "debugging", "profiling", "results"),
    *("examples", "cost", "again"),
)


def test_the_page_stands_alone_and_has_every_chapter(tmp_path: Path) -> None:
    document = course_report(made.whole(tmp_path))
    assert tuple(one.anchor for one in document.sections) == CHAPTERS
    page = course_page(document)
    for anchor in CHAPTERS:
        assert f'<section id="{anchor}">' in page
        assert f'href="#{anchor}"' in page
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert "&lt;script&gt;" in page
    for target in re.findall(r'src="([^"]*)"', page):
        assert target.startswith("data:image/")
    assert all('alt="' in tag and 'alt=""' not in tag for tag in re.findall(r"<img[^>]*>", page))
    assert "<code>weights/resnet-50</code>" in page


def test_a_run_that_was_only_trained_has_a_page(tmp_path: Path) -> None:
    page = course_page(course_report(made.bare(tmp_path)))
    for command in ("bintally tune", "bintally evaluate", "bintally profile", "bintally cloud status", "--watch"):
        assert f"<code>{command}" in page or command == "--watch", command
    assert page.count('class="missing"') == 8
    assert "40.0 % right on the validation part" in page


def test_a_training_under_way_says_so_at_the_top(tmp_path: Path) -> None:
    document = course_report(made.bare(tmp_path, status="running"))
    assert document.lead.endswith("the training is running")
