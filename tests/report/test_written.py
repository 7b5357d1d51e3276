"""What a verb wrote is read back whole, or the error says which verb writes it."""

from pathlib import Path

import pytest

from bintally.errors import RunError
from bintally.report.written import read_written


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text('{"format": 1, "part": "test"}')
    assert read_written(path, "evaluate") == {"format": 1, "part": "test"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no .*figures.json: run `bintally examine` first"),
        ('{"format": 1', "is damaged: run `bintally examine` again"),
        ('{"format": 2}', "was not written by this version: run `bintally examine` again"),
        ("[1]", "was not written by this version"),
    ],
)
def test_what_is_not_there_or_no_good_is_told(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "figures.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=says):
        read_written(path, "examine")
