from pathlib import Path

import pytest

from bintally.data.source import open_split
from bintally.errors import ManifestError, StoreError, UsageError
from tests.data.pushed_split import class_folders, small_split


def test_a_manifest_its_folder_and_its_url(tmp_path: Path) -> None:
    digest = small_split(tmp_path).digest
    assert open_split(tmp_path / "split.parquet").digest == digest
    assert open_split(tmp_path).digest == digest
    assert open_split(tmp_path.as_uri()).digest == digest


class Notes:
    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, task: str, total: int | None = None) -> None: ...
    def advance(self, steps: int = 1, note: str = "") -> None: ...
    def end(self) -> None: ...

    def message(self, text: str) -> None:
        self.told.append(text)


def test_class_folders_and_what_they_lack(tmp_path: Path) -> None:
    notes = Notes()
    class_folders(tmp_path, "train/1/a.jpg", "train/2/b.jpg", "validation/1/c.jpg")
    found = open_split(str(tmp_path), progress=notes)
    assert len(found.of_part("train")) == 2
    assert [text.partition(":")[0] for text in notes.told] == ["no calibration part", "no test part"]


def test_what_is_no_split(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"neither split\.parquet nor class folders .*: see --help"):
        open_split(tmp_path)
    (tmp_path / "bin-images").mkdir()
    with pytest.raises(ManifestError, match=r"`bintally split .* first"):
        open_split(tmp_path)
    class_folders(tmp_path, "train/1/a.jpg", "train/2/b.jpg")
    with pytest.raises(ManifestError, match="none for validation"):
        open_split(tmp_path)
    with pytest.raises(ManifestError, match="there is no manifest"):
        open_split(tmp_path / "none.parquet")
    with pytest.raises(StoreError, match=r"from a folder or from s3://"):
        open_split("https://example.org/x")
    with pytest.raises(UsageError, match="name the bucket"):
        open_split("s3://")
