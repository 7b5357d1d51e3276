"""Tables and plots made of what the stages' modules give."""

from bintally.report.document import plots, table
from bintally.report.page import spans


def test_a_table_of_anything() -> None:
    made = table(["what", "how many"], [["bins", 12345], ["mean", 2.5], ["none", None]], "caption", words=1)
    assert made.rows == (("bins", "12,345"), ("mean", "2.50"), ("none", "–"))
    assert (made.columns, made.caption, made.words) == (("what", "how many"), "caption", 1)


def test_a_plot_is_named_by_its_caption_or_its_alternative_text() -> None:
    made = plots([{"uri": "data:a", "caption": "One", "alt": "x"}, {"uri": "data:b", "alt": "Two"}], wide=True)
    assert [one.caption for one in made.plots] == ["One", "Two"]
    assert made.wide


def test_code_stands_between_backticks() -> None:
    assert spans("run `a b` now") == [("run ", False), ("a b", True), (" now", False)]
    assert spans("`a`") == [("a", True)]
    assert spans("12` long") == [("12` long", False)]
    assert spans("`a` and 3`") == [("a", True), (" and 3`", False)]
    assert spans("") == []
