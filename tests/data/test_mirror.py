import asyncio
import os
import time
from pathlib import Path

import pytest

from bintally.data.manifest import Manifest, write_manifest
from bintally.data.mirror import MirrorSettings, mirror
from bintally.data.push import push
from bintally.data.store import Store, open_store
from bintally.errors import ManifestError, StoreError, UsageError
from tests.data.pushed_split import class_folders, small_split


class Counting(Store):
    """Tells what it was asked for; breaks when it was asked too often."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner._inner, inner.url, inner._settings)
        self.asked: list[str] = []
        self.breaks_after = 10**6

    async def get(self, name: str) -> bytes:
        self.asked.append(name)
        if len(self.asked) > self.breaks_after:
            raise StoreError("the net is gone")
        return await super().get(name)


@pytest.fixture
def split(tmp_path: Path) -> Manifest:
    return small_split(tmp_path)


@pytest.fixture
def store(split: Manifest) -> Counting:
    held = open_store("memory://")
    push(split, held)
    return Counting(held)


@pytest.fixture
def settings(tmp_path: Path) -> MirrorSettings:
    return MirrorSettings(folder=str(tmp_path / "mirrors"), in_flight=2)


def test_an_interrupted_mirror_goes_on(store: Counting, settings: MirrorSettings) -> None:
    store.breaks_after = 5
    with pytest.raises(StoreError, match="the net is gone"):
        mirror(store, settings)
    have = {path.name for path in settings.path.rglob("*.jpg")}
    assert 1 <= len(have) <= 4
    store.asked, store.breaks_after = [], 10**6
    folder = mirror(store, settings)
    assert len(list(folder.rglob("*.jpg"))) == 11
    assert not have & {Path(name).name for name in store.asked}


def test_what_was_spoilt_here_is_fetched_again_and_what_is_gone_there_goes_here(
    store: Counting, settings: MirrorSettings, split: Manifest
) -> None:
    folder = mirror(store, settings)
    spoilt = folder / "train/4/00004.jpg"
    right = spoilt.read_bytes()
    spoilt.write_bytes(right[:-1] + b"?")
    (folder / "train/4/old.jpg").write_bytes(b"x")
    store.asked = []
    mirror(store, settings)
    assert store.asked == ["split.parquet", "train/4/00004.jpg"]
    assert spoilt.read_bytes() == right
    assert not (folder / "train/4/old.jpg").exists()


def test_a_photo_that_differs_from_its_manifest_ends_it(store: Counting, settings: MirrorSettings) -> None:
    asyncio.run(store.put("train/4/00004.jpg", b"other"))
    with pytest.raises(StoreError, match=r"train/4/00004\.jpg is not what split\.parquet says of it \(3 tries\)"):
        mirror(store, settings)


def test_photos_elsewhere_are_not_mirrored(settings: MirrorSettings, tmp_path: Path, split: Manifest) -> None:
    store = open_store("memory://")
    path = tmp_path / "other" / "split.parquet"
    path.parent.mkdir()
    write_manifest(path, split)
    asyncio.run(store.put("split.parquet", path))
    with pytest.raises(ManifestError, match="names photos elsewhere"):
        mirror(store, settings)


def test_an_empty_store(settings: MirrorSettings) -> None:
    with pytest.raises(ManifestError, match=r"neither split\.parquet nor class folders"):
        mirror(open_store("memory://"), settings)


def test_the_bound_holds(store: Counting, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mirror\.max_gb"):
        mirror(store, MirrorSettings(folder=str(tmp_path / "mirrors"), max_gb=1e-9))
    folder = mirror(store, MirrorSettings(folder=str(tmp_path / "mirrors"), max_gb=1))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    tight = MirrorSettings(folder=str(tmp_path / "mirrors"), max_gb=1.5 * size / 1e9)
    place = class_folders(
        tmp_path / "second", *(f"{part}/{n}/{n}.jpg" for part in ("train", "val") for n in range(6))
    )
    with pytest.raises(UsageError, match="used within a day"):
        mirror(open_store(str(place)), tight)
    assert folder.exists()
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(folder / ".used", (long_ago, long_ago))
    mirror(open_store(str(place)), tight)
    assert not folder.exists()


def test_the_same_bucket_at_another_service_is_another_one(store: Counting, settings: MirrorSettings) -> None:
    assert mirror(store, settings) != mirror(store, settings, endpoint="http://127.0.0.1:1")


def test_where_mirrors_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert MirrorSettings().path == tmp_path / "bintally/mirrors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert MirrorSettings().path == Path.home() / ".cache/bintally/mirrors"
