"""The manifest: what is taken, what is listed, and what a file on disk must hold to be read again."""

import dataclasses
import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bintally.data import manifest as module
from bintally.data.manifest import (
    Manifest,
    Problem,
    build_manifest,
    open_manifest,
    ordered,
    read_manifest,
    write_manifest,
)
from bintally.errors import DiskFullError, ManifestError
from bintally.progress import Silent


def jpeg(seed: int, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    out = io.BytesIO()
    small.resize(size, Image.Resampling.BILINEAR).save(out, "JPEG", **options)
    return out.getvalue()


def metadata(*quantities: int, expected: int | None = None) -> str:
    items = {f"SKU{n}": {"asin": f"A{n}", "name": "Ünder", "quantity": q} for n, q in enumerate(quantities)}
    return json.dumps(
        {"BIN_FCSKU_DATA": items, "EXPECTED_QUANTITY": sum(quantities) if expected is None else expected}
    )


def put(folder: Path, name: str, photo: bytes | None, record: str | None) -> None:
    for sub in ("bin-images", "metadata"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    if photo is not None:
        (folder / "bin-images" / f"{name}.jpg").write_bytes(photo)
    if record is not None:
        (folder / "metadata" / f"{name}.json").write_text(record, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bins"
    put(made, "00100", jpeg(1), metadata(2, 1))
    put(made, "100", jpeg(2), metadata(4, expected=5))
    put(made, "00101", jpeg(3), metadata())
    put(made, "00102", jpeg(4), "no json")
    put(made, "00103", jpeg(5), None)
    put(made, "00104", jpeg(6)[:300], metadata(1))
    put(made, "00105", b"", metadata(1))
    put(made, "00106", None, metadata(1))
    put(made, "00107", jpeg(7), metadata(-3))
    put(
        made,
        "00108",
        jpeg(8),
        '{"BIN_FCSKU_DATA": {"S": {"name": "\\ud800", "quantity": 1}}, "EXPECTED_QUANTITY": 1}',
    )
    return made


def test_takes_photos_with_their_records_and_lists_the_rest(folder: Path) -> None:
    made = build_manifest(folder)
    assert [row.photo.photo_id for row in made.rows] == ["100", "00100", "00101", "00102", "00103", "00107", "00108"]
    assert [row.label for row in made.rows] == [5, 3, 0, None, None, None, 1]
    assert [row.label_source for row in made.rows] == ["record"] * 3 + ["none"] * 3 + ["record"]
    first = made.rows[1]
    assert first.record is not None
    assert [item.quantity for item in first.record.items] == [2, 1]
    assert (first.photo.width, first.photo.height) == (64, 48)
    assert made.path_of(first).read_bytes() == jpeg(1)
    assert first.num_bytes == len(jpeg(1))
    problems = {problem.photo_id: problem.what for problem in made.problems}
    assert set(problems) == {"00102", "00103", "00104", "00105", "00106", "00107"}
    assert "not JSON" in problems["00102"]
    assert problems["00103"] == "a photo without a record"
    assert "damaged" in problems["00104"]
    assert "empty" in problems["00105"]
    assert problems["00106"] == "a record without a photo"
    assert "-3" in problems["00107"]


def test_processes_and_threads_find_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = build_manifest(folder, workers=2)
    monkeypatch.setattr(module, "SMALL", 0)
    assert build_manifest(folder, workers=2) == threads
    assert build_manifest(folder, workers=1) == threads


def test_a_turned_photo_has_the_size_that_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path, "1", jpeg(1, (64, 48), exif=exif), metadata(1))
    photo = build_manifest(tmp_path).rows[0].photo
    assert (photo.width, photo.height) == (48, 64)


def test_a_file_name_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path, "1", jpeg(1), metadata(1))
    os.rename(  # noqa: PTH104 - pathlib has no bytes
        tmp_path / "bin-images" / "1.jpg", os.fsencode(tmp_path / "bin-images") + b"/\xff.jpg"
    )
    put(tmp_path, "2", jpeg(2), metadata(1))
    made = write_manifest(tmp_path / "m.parquet", build_manifest(tmp_path))
    assert [row.photo.photo_id for row in made.rows] == ["2"]
    assert {problem.photo_id for problem in read_manifest(tmp_path / "m.parquet").problems} == {"1", "?"}


def test_two_files_of_one_id_are_a_problem(tmp_path: Path) -> None:
    put(tmp_path, "1", jpeg(1), metadata(1))
    put(tmp_path, "2", jpeg(2), metadata(1))
    (tmp_path / "bin-images" / "2.png").write_bytes(jpeg(3))
    made = build_manifest(tmp_path)
    assert [row.photo.photo_id for row in made.rows] == ["1"]
    assert made.problems == (Problem(photo_id="2", what="2 photo files have this id: none was taken"),)


def test_tells_how_far_it_is(folder: Path) -> None:
    class Ear(Silent):
        total: int | None = None
        steps = 0

        def begin(self, task: str, total: int | None = None) -> None:
            self.total = total

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.steps += steps

    ear = Ear()
    build_manifest(folder, progress=ear)
    assert ear.steps == ear.total == 9


@pytest.mark.parametrize("files", [[], ["bin-images"]])
def test_no_dataset_folder(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).mkdir()
    with pytest.raises(ManifestError, match="bintally fetch"):
        build_manifest(tmp_path)


def test_only_broken_photos(tmp_path: Path) -> None:
    put(tmp_path, "1", b"nothing", metadata(1))
    with pytest.raises(ManifestError, match="can be read"):
        build_manifest(tmp_path)


def test_the_file_gives_back_what_was_written(folder: Path, tmp_path: Path) -> None:
    built = build_manifest(folder)
    path = tmp_path / "else" / "m.parquet"
    written = write_manifest(path, built)
    assert written == built
    assert read_manifest(path) == built


def test_a_dataset_can_be_moved_with_its_manifest(folder: Path, tmp_path: Path) -> None:
    written = write_manifest(folder / "manifest.parquet", build_manifest(folder))
    moved = folder.rename(tmp_path / "moved")
    again = read_manifest(moved / "manifest.parquet")
    assert again.root == moved
    assert again.digest == written.digest
    assert again.path_of(again.rows[0]).is_file()


def test_a_manifest_elsewhere_keeps_where_the_photos_are(folder: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "run" / "split.parquet", build_manifest(folder))
    (tmp_path / "run").rename(tmp_path / "other")
    assert read_manifest(tmp_path / "other" / "split.parquet").root == folder


def change(path: Path, column: str, value: object) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[0] = value
    field = table.schema.field(column)
    pq.write_table(table.set_column(place, field, [pa_array(values, field.type)]), path)


def pa_array(values, kind):  # type: ignore[no-untyped-def]
    import pyarrow as pa

    return pa.array(values, type=kind)


@pytest.mark.parametrize(("column", "value"), [("label", 3), ("part", "train"), ("uri", "../x.jpg"), ("blur", 0.0)])
def test_a_manifest_changed_by_hand_is_refused(folder: Path, tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, build_manifest(folder))
    change(path, column, value)
    with pytest.raises(ManifestError, match=r"was changed after bintally wrote it.*make it again"):
        read_manifest(path)


def test_a_dropped_row_or_column_is_seen(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, build_manifest(folder))
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(ManifestError, match="changed"):
        read_manifest(path)
    pq.write_table(table.drop_columns(["group"]), path)
    with pytest.raises(ManifestError, match="columns"):
        read_manifest(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(ManifestError, match="not written by bintally"):
        read_manifest(path)


def test_a_path_out_of_the_dataset_is_refused(folder: Path, tmp_path: Path) -> None:
    built = build_manifest(folder)
    row = built.rows[0]
    away = dataclasses.replace(row, photo=dataclasses.replace(row.photo, uri="../../etc/passwd"))
    write_manifest(tmp_path / "m.parquet", dataclasses.replace(built, rows=(away, *built.rows[1:])))
    with pytest.raises(ManifestError, match="outside the dataset"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"nothing of the kind" * 100])
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.parquet"
    path.write_bytes(data)
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(path)


def test_a_truncated_file_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, build_manifest(folder))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="bintally manifest DIR"):
        read_manifest(tmp_path / "none.parquet")


def test_a_place_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ManifestError, match="--to"):
        write_manifest(tmp_path / "file" / "m.parquet", build_manifest(folder))


def test_a_read_only_folder_is_left_alone_even_by_root(folder: Path) -> None:
    built = build_manifest(folder)
    folder.chmod(0o555)
    try:
        with pytest.raises(ManifestError, match=r"read-only: .*--to"):
            write_manifest(folder / "manifest.parquet", built)
        assert not (folder / "manifest.parquet").exists()
        assert open_manifest(folder) == built
    finally:
        folder.chmod(0o755)


def test_a_full_disk_leaves_the_old_manifest(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.parquet"
    write_manifest(path, build_manifest(folder))
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.pq, "write_table", full)
    with pytest.raises(DiskFullError):
        write_manifest(path, build_manifest(folder))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_opening_a_folder_builds_in_memory_and_changes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert open_manifest(folder) == build_manifest(folder)
    assert sorted(folder.rglob("*")) == before


def test_opening_a_folder_takes_its_manifest_and_tells_of_new_photos(folder: Path) -> None:
    class Ear(Silent):
        said = ""

        def message(self, text: str) -> None:
            self.said += text

    written = write_manifest(folder / "manifest.parquet", build_manifest(folder))
    ear = Ear()
    assert open_manifest(folder, progress=ear) == written
    assert ear.said == ""
    put(folder, "00200", jpeg(1), metadata(1))
    open_manifest(folder, progress=ear)
    assert "1 photos came after" in ear.said
    assert open_manifest(folder / "manifest.parquet") == written


def test_one_id_twice_is_refused(folder: Path) -> None:
    rows = build_manifest(folder).rows
    with pytest.raises(ManifestError, match="twice"):
        ordered(folder, [*rows, rows[0]])


def test_of_part(folder: Path) -> None:
    built = build_manifest(folder)
    rows = (dataclasses.replace(built.rows[0], part="test"), *built.rows[1:])
    split = Manifest(root=built.root, rows=rows)
    assert split.of_part("test") == rows[:1]
    assert split.of_part("train") == ()


@pytest.mark.slow
@pytest.mark.real
def test_real_photos(abid: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    built = build_manifest(abid)
    took = time.monotonic() - start
    assert len(built.rows) == 8000
    assert built.problems == ()
    written = write_manifest(tmp_path / "m.parquet", built)
    assert read_manifest(tmp_path / "m.parquet") == written
    assert took < 300  # about 23 s of processor time over all cores; the machine may be shared
