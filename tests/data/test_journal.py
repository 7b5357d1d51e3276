import subprocess
import sys
from pathlib import Path

import pytest

from bintally.data.journal import NAME, Journal
from bintally.errors import StoreError


def test_what_was_noted_is_there_the_next_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "new", "s3://a") as journal:
        journal.whole(("bin-images/1.jpg", 7), ("metadata/1.json", 8))
        journal.verdict("bin-images/2.jpg", "missing", "not in\tthe store\n")
        journal.count("5", 3)
    with Journal(tmp_path / "new", "s3://a") as journal:
        assert journal.sizes == {"bin-images/1.jpg": 7, "metadata/1.json": 8}
        assert journal.verdicts == {"bin-images/2.jpg": ("missing", "not in\tthe store\n")}
        assert journal.counts == {"5": 3}


def test_a_finished_fetch_asks_again_for_what_was_missing(tmp_path: Path) -> None:
    with Journal(tmp_path, "s3://a") as journal:
        journal.verdict("bin-images/2.jpg", "missing", "x")
        journal.whole(("bin-images/1.jpg", 7))
        journal.finish()
    with Journal(tmp_path, "s3://a") as journal:
        assert (journal.verdicts, journal.sizes) == ({}, {"bin-images/1.jpg": 7})


def test_another_source_may_have_what_the_first_had_not(tmp_path: Path) -> None:
    with Journal(tmp_path, "s3://a") as journal:
        journal.verdict("bin-images/2.jpg", "missing", "x")
        journal.count("2", 3)
    with Journal(tmp_path, "s3://b"):
        pass
    with Journal(tmp_path, "s3://b") as journal:
        assert not journal.verdicts
        assert not journal.counts


def test_a_line_broken_off_by_a_kill_harms_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path, "s3://a") as journal:
        journal.whole(("bin-images/1.jpg", 7))
        journal.whole(("bin-images/2.jpg", 7))
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-5])
    with Journal(tmp_path, "s3://a") as journal:
        assert journal.sizes == {"bin-images/1.jpg": 7}
        journal.whole(("bin-images/3.jpg", 9))
    with Journal(tmp_path, "s3://a") as journal:
        assert journal.sizes == {"bin-images/1.jpg": 7, "bin-images/3.jpg": 9}


@pytest.mark.skipif(sys.platform == "win32", reason="no advisory locks")
def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from bintally.data.journal import Journal; Journal(Path({str(tmp_path)!r}), 'x')"
    )
    with Journal(tmp_path, "s3://a"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another bintally is fetching" in done.stderr
    with Journal(tmp_path, "s3://a"):  # the lock went with the first one
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write into"):
        Journal(tmp_path / "file", "s3://a")
