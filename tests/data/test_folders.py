from pathlib import Path

import pytest

from bintally.data.folders import missing_parts, parts_in, read_folders
from bintally.errors import ManifestError
from tests.data.pushed_split import class_folders, noise


def test_a_folder_a_part_and_count_is_a_split(tmp_path: Path) -> None:
    class_folders(
        tmp_path,
        "train/1/a.jpg",
        "train/3/b.jpeg",
        "train/3/c.jpg",
        "val/2/d.jpg",
        "train/3/note.txt",
        "test/10+/e.png",
    )
    found = read_folders(parts_in(tmp_path))
    assert [(row.photo.photo_id, row.part, row.label, row.photo.uri) for row in found.rows] == [
        ("a", "train", 1, "train/1/a.jpg"),
        ("b", "train", 3, "train/3/b.jpeg"),
        ("c", "train", 3, "train/3/c.jpg"),
        ("d", "validation", 2, "val/2/d.jpg"),
        ("e", "test", 10, "test/10+/e.png"),
    ]
    assert found.split is not None
    assert str(found.split.counts) == "1-10+"
    assert found.split.fractions == (0.6, 0.2, 0.0, 0.2)
    assert not found.split.shuffled
    assert missing_parts(found) == ["calibration"]
    assert found.path_of(found.rows[0]) == tmp_path / "train/1/a.jpg"
    assert read_folders(parts_in(tmp_path)).digest == found.digest


def test_files_of_one_name_are_told_apart_by_their_place(tmp_path: Path) -> None:
    class_folders(tmp_path, "train/1/1.jpg", "train/2/1.jpg", "validation/1/1.jpg")
    ids = [row.photo.photo_id for row in read_folders(parts_in(tmp_path)).rows]
    assert sorted(ids) == ["train-1-1.jpg", "train-2-1.jpg", "validation-1-1.jpg"]


def test_a_photo_that_lies_in_two_parts_is_noticed(tmp_path: Path) -> None:
    class_folders(tmp_path, "train/1/a.jpg", "train/2/b.jpg", "validation/1/c.jpg")
    (tmp_path / "validation/1/c.jpg").write_bytes(noise(0))
    found = read_folders(parts_in(tmp_path))
    assert found.split is not None
    assert found.split.shuffled
    assert len({row.group for row in found.rows}) == 2


def test_photos_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    class_folders(tmp_path, "train/1/a.jpg", "train/2/b.jpg")
    (tmp_path / "train/2/c.jpg").write_bytes(b"no photo")
    found = read_folders(parts_in(tmp_path))
    assert [problem.photo_id for problem in found.problems] == ["c"]
    assert len(found.rows) == 2


def test_channels_may_lie_anywhere(tmp_path: Path) -> None:
    class_folders(tmp_path, "one/1/a.jpg", "one/2/b.jpg", "two/deep/2/c.jpg")
    found = read_folders({"train": tmp_path / "one", "validation": tmp_path / "two/deep"})
    assert [row.photo.uri for row in found.rows] == ["one/1/a.jpg", "one/2/b.jpg", "two/deep/2/c.jpg"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("train/cat/a.jpg",), "train/cat is named by no count"),
        (("train/1/a.txt",), "no photos in class folders"),
        (("train/1/a.jpg", "validation/1/b.jpg"), "holds 1: there is nothing to learn"),
        (("train/3+/a.jpg", "validation/5/b.jpg"), r"the folder 3\+ stands beside the count 5"),
    ],
)
def test_what_is_no_set_of_class_folders(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    class_folders(tmp_path, *names)
    with pytest.raises(ManifestError, match=says):
        read_folders(parts_in(tmp_path))


def test_nothing_readable_and_two_names_of_one_part(tmp_path: Path) -> None:
    for name in ("train/1/a.jpg", "train/2/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"no photo below .* can be read"):
        read_folders(parts_in(tmp_path))
    (tmp_path / "training").mkdir()
    with pytest.raises(ManifestError, match="are both the train part"):
        parts_in(tmp_path)
