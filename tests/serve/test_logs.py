"""Log lines and request ids."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.serve.logs import JsonLines, request_id


@given(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.floats(), st.binary())))
def test_a_line_is_always_one_line_of_json(event: str, fields: dict[str, object]) -> None:
    record = logging.LogRecord("bintally.serve", logging.INFO, "f", 1, event, None, None)
    record.fields = fields
    line = JsonLines().format(record)
    assert "\n" not in line
    json.loads(line)


def test_an_error_brings_its_traceback() -> None:
    try:
        raise ValueError("this one")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "e", None, (type(error), error, error.__traceback__))
    assert "this one" in json.loads(JsonLines().format(record))["traceback"]


@pytest.mark.parametrize("sane", ["a", "550e8400-e29b-41d4-a716-446655440000", "a/b:c_d.e=f+g", "x" * 128])
def test_a_sane_id_is_kept(sane: str) -> None:
    assert request_id(sane) == sane


@pytest.mark.parametrize("odd", [None, "", " ", "a b", "a\n", "ü", "x" * 129, '"', "<script>"])
def test_any_other_is_replaced(odd: str | None) -> None:
    made = request_id(odd)
    assert made != odd
    assert len(made) == 16
    assert made != request_id(odd)
