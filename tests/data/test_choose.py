import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.bins import id_order
from bintally.data.choose import Choice, is_id, parse_ids, read_list, so_many, write_list
from bintally.errors import UsageError


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("1-3", ["1", "2", "3"]),
        ("9-11", ["9", "10", "11"]),
        ("00009-00011", ["00009", "00010", "00011"]),
        ("00523,523", ["523", "00523"]),
        (" 5 , 1-2,, 1 ", ["1", "2", "5"]),
        ("0-1", ["0", "1"]),
        ("00523", ["00523"]),
        ("drawn-7_a.b", ["drawn-7_a.b"]),
    ],
)
def test_ids_and_ranges(text: str, ids: list[str]) -> None:
    assert parse_ids(text, "--ids") == ids


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3-1", "backwards"),
        ("001-10", "as many digits"),
        ("../etc", "no id"),
        ("a/b", "no id"),
        (".hidden", "no id"),
        ("١-٣", "no id"),
        (",", "names no id"),
        ("1-99999999999", "more than"),
    ],
)
def test_what_is_no_id(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_ids(text, "--ids")


def test_an_ids_file_has_remarks_and_ranges(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("00001-00002 7\n# all of these\n523 # one\n\n")
    assert Choice(ids_file=tmp_path / "ids").named() == (["7", "523", "00001", "00002"], {})


def test_two_ways_of_naming_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not two"):
        Choice(ids="1", ids_file=tmp_path / "x").named()
    assert Choice(limit=3).named() is None


def test_the_courses_list(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"1": ["data/metadata/00523.json", "data/metadata/523.json"], "12": ["x/7.json"]}))
    assert read_list(path) == {"00523": 1, "523": 1, "7": 12}
    assert Choice(list_file=path).named() == (["7", "523", "00523"], {"00523": 1, "523": 1, "7": 12})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "no list of photos"),
        ('{"one": []}', "no count"),
        ('{"1": "data/metadata/1.json"}', "no list of names"),
        ('{"1": [3]}', "no name"),
        ('{"1": ["data/metadata/.json"]}', "no name"),
        ('{"1": ["a/1.json"], "2": ["a/1.json"]}', "both 1 and 2"),
        ("{}", "names no photo"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_list(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_list(tmp_path / "none.json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text"):
        Choice(ids_file=tmp_path / "bytes").named()


@given(st.dictionaries(st.from_regex(r"[0-9]{1,6}", fullmatch=True), st.integers(0, 120), min_size=1))
def test_a_written_list_reads_back(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.json"
    write_list(path, counts)
    assert read_list(path) == counts
    assert all(name.startswith("data/metadata/") for names in json.loads(path.read_text()).values() for name in names)


def test_so_many_of_each_count() -> None:
    counts = {"1": 1, "2": 1, "3": 1, "4": 2, "5": 2, "6": 3}
    ids = [*sorted(counts), "7"]
    assert so_many(ids, counts, per_count=2, limit=None) == ["1", "2", "4", "5", "6"]
    assert so_many(ids, counts, per_count=2, limit=3) == ["1", "4", "6"]  # evenly: one of each
    assert so_many(ids, counts, per_count=None, limit=2) == ["1", "2"]
    assert so_many(ids, {}, per_count=None, limit=None) == ids


@given(st.text(max_size=8))
def test_an_id_never_leads_out_of_its_folder(word: str) -> None:
    if is_id(word):
        assert Path("folder", word + ".jpg").resolve().parent == Path("folder").resolve()
        assert not word.startswith(".")
        assert id_order(word)
