"""What a push must do to every store: class folders, checked bytes, and the second time only what changed."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bintally.data.folders import parts_in, read_folders
from bintally.data.manifest import Manifest, read_manifest, write_manifest
from bintally.data.mirror import MirrorSettings, mirror
from bintally.data.push import PushSettings, push
from bintally.data.source import open_split
from bintally.data.store import Store
from tests.data.pushed_split import row_of, small_split

T = TypeVar("T")
SETTINGS = PushSettings(in_flight=4)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


@pytest.fixture
def split(tmp_path: Path) -> Manifest:
    return small_split(tmp_path)


def names(store: Store) -> set[str]:
    async def all_of_them() -> set[str]:
        return {one.name async for one in store.list()}

    return run(all_of_them())


def test_a_split_becomes_class_folders_with_their_manifest(store: Store, split: Manifest, tmp_path: Path) -> None:
    report = push(split, store, settings=SETTINGS)
    assert (report.photos, report.sent, report.same, report.stale) == (11, 12, 0, ())
    held = names(store)
    assert {
        "train/4/00004.jpg",
        "validation/5+/00005.jpg",
        "validation/1/00009.jpg",
        "calibration/5+/00006.jpg",
    } < held
    assert len(held) == 12
    for row in split.rows[1:]:
        folder = f"{min(row.label or 0, 5)}{'+' if (row.label or 0) >= 5 else ''}"
        data = run(store.get(f"{row.part}/{folder}/{row.photo.photo_id}.jpg"))
        assert hashlib.sha256(data).hexdigest() == row.photo.sha256
    (tmp_path / "back").mkdir()
    (tmp_path / "back/split.parquet").write_bytes(run(store.get("split.parquet")))
    back = read_manifest(tmp_path / "back/split.parquet")
    assert back.digest == report.digest
    assert back.split == split.split
    assert [row.label for row in back.rows] == [row.label for row in split.rows[1:]]
    assert {row.photo.uri for row in back.rows} == held - {"split.parquet"}


def test_a_second_push_sends_what_changed_and_removes_nothing(store: Store, split: Manifest, tmp_path: Path) -> None:
    push(split, store, settings=SETTINGS)
    again = push(split, store, settings=SETTINGS)
    assert (again.sent, again.same, again.num_bytes) == (0, 12, 0)
    run(store.put("test/3/note.txt", b"of somebody else"))
    run(store.put("other/x.jpg", b"not ours"))
    changed = row_of(tmp_path / "bins", "00004", 4, "train", 99)
    moved = dataclasses.replace(split.rows[8], part="test")
    rows = [{4: changed, 8: moved}.get(place, row) for place, row in enumerate(split.rows)]
    other = write_manifest(tmp_path / "other.parquet", dataclasses.replace(split, rows=tuple(rows)))
    third = push(other, store, settings=SETTINGS)
    assert (third.sent, third.same) == (3, 9)  # the changed photo, the moved one under its new name, the manifest
    assert third.stale == ("test/3/note.txt", "train/0/00008.jpg")
    assert {"train/0/00008.jpg", "test/0/00008.jpg", "test/3/note.txt"} < names(store)
    pruned = push(other, store, prune=True, settings=SETTINGS)
    assert (pruned.sent, pruned.same, pruned.removed, pruned.stale) == (0, 12, 2, ())
    assert "other/x.jpg" in names(store)
    assert not {"train/0/00008.jpg", "test/3/note.txt"} & names(store)


def test_bytes_that_the_store_has_wrong_are_sent_again(store: Store, split: Manifest) -> None:
    push(split, store, settings=SETTINGS)
    right = run(store.get("train/4/00004.jpg"))
    run(store.put("train/4/00004.jpg", right[:-1] + bytes([right[-1] ^ 1])))  # as many bytes, others
    assert push(split, store, settings=SETTINGS).sent == 1
    assert run(store.get("train/4/00004.jpg")) == right


def test_what_was_pushed_comes_back_checked_and_only_once(store: Store, split: Manifest, tmp_path: Path) -> None:
    push(split, store, settings=SETTINGS)
    settings = MirrorSettings(folder=str(tmp_path / "mirrors"), in_flight=3)
    folder = mirror(store, settings)
    assert mirror(store, settings) == folder
    back = read_manifest(folder / "split.parquet")
    assert [back.path_of(row).read_bytes() for row in back.rows] == [
        split.path_of(row).read_bytes() for row in split.rows[1:]
    ]


def test_class_folders_without_a_manifest_come_too(store: Store, split: Manifest, tmp_path: Path) -> None:
    push(split, store, settings=SETTINGS)
    run(store.delete("split.parquet"))
    folder = mirror(store, MirrorSettings(folder=str(tmp_path / "mirrors")))
    found = read_folders(parts_in(folder))
    assert {(row.part, row.photo.sha256) for row in found.rows} == {
        (row.part, row.photo.sha256) for row in split.rows[1:]
    }
    assert str(found.split and found.split.counts) == "0-5+"


def test_a_training_finds_its_split_by_url(store: Store, split: Manifest, tmp_path: Path) -> None:
    report = push(split, store, settings=SETTINGS)
    if store.url == "memory://":  # each of them is another one
        return
    settings = MirrorSettings(folder=str(tmp_path / "mirrors"))
    for name in (store.url, f"{store.url}/", f"{store.url}/split.parquet"):
        found = open_split(name, store=store._settings, mirrored=settings)
        assert found.digest == report.digest
        assert all(found.path_of(row).is_file() for row in found.rows)
