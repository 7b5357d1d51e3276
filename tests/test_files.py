import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from bintally import files
from bintally.errors import DiskFullError, UsageError
from tests.small_disk import small_disk


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    files.write_json(path, {"größe": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"größe": [1, None]}
    assert names(path.parent) == ["b.json"]
    files.write_text(path, "é")
    assert path.read_bytes() == "é".encode()
    files.write_bytes(path, b"x", durable=False)
    assert path.read_bytes() == b"x"


def test_a_file_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x", encoding="utf-8")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"loss": float("nan")})
    with pytest.raises(KeyError), files.replacing(path) as part:  # noqa: PT012
        part.write_text("half", encoding="utf-8")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.json"]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with files.replacing(path) as one, files.replacing(path) as two:
        assert one != two
        one.write_text("one", encoding="utf-8")
        two.write_text("two", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "one"  # the one that ended last
    assert names(tmp_path) == ["a"]


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 128 << 10) as disk:
        path = disk.path / "a.bin"
        files.write_bytes(path, b"old")
        with pytest.raises(DiskFullError, match=r"no room left on the disk for .*a\.bin: free some space"):
            files.write_bytes(path, bytes(1_000_000))
        assert path.read_bytes() == b"old"
        assert names(disk.path) == ["a.bin"]
        with pytest.raises(DiskFullError), files.replacing_folder(disk.path / "folder") as folder:
            (folder / "x").write_bytes(bytes(1_000_000))
        assert names(disk.path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_and_no_share_of_it_are_the_same(tmp_path: Path, number: int) -> None:
    with pytest.raises(DiskFullError), files.replacing(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_another_failure_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.replacing(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "no")


def test_a_folder_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("first", "second"):
        with files.replacing_folder(target) as folder:
            (folder / "a").write_text(text, encoding="utf-8")
            assert folder != target
        assert (target / "a").read_text(encoding="utf-8") == text
    with pytest.raises(KeyError), files.replacing_folder(target):
        raise KeyError
    assert (target / "a").read_text(encoding="utf-8") == "second"
    assert names(tmp_path) == ["model"]


def test_what_a_killed_process_left_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / f".a.json.17{files.PART}").write_text("half", encoding="utf-8")
    (tmp_path / "b.json").write_text("whole", encoding="utf-8")
    assert files.remove_parts(tmp_path) == 1
    assert names(tmp_path) == ["b.json"]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_device_or_pipe_is_refused_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="name a file"):
        files.write_text(pipe, "x")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
