import asyncio
from pathlib import Path

import pytest

from bintally.bins import BinPhoto
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, Row, SplitInfo, digest_of
from bintally.data.push import PushSettings, push, pushed
from bintally.data.store import Store, open_store
from bintally.errors import ManifestError, StoreError
from bintally.files import sha256_of


def manifest(folder: Path, *, split: bool = True) -> Manifest:
    rows = []
    for number in range(6):
        path = folder / f"{number}.JPG"
        path.write_bytes(bytes([number]) * 50)
        photo = BinPhoto(photo_id=str(number), uri=path.name, sha256=sha256_of(path), width=5, height=5)
        row = Row(
            photo=photo,
            num_bytes=50,
            blur=1.0,
            look="0" * 16,
            record=None,
            expected_quantity=number,
            label=None if number == 5 else number,
            label_source="none" if number == 5 else "record",
            group=str(number),
            part="train" if number < 3 else "validation",
        )
        rows.append(row)
    info = SplitInfo(counts=CountRange(highest=3), seed=0, fractions=(0.5, 0.5, 0, 0), shuffled=False)
    return Manifest(root=folder, rows=tuple(rows), split=info if split else None)


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.steps = 0

    def begin(self, task: str, total: int | None = None) -> None:
        self.told.append(f"{task} {total}")

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps

    def end(self) -> None:
        self.told.append("end")

    def message(self, text: str) -> None:
        self.told.append(text)


def test_names_are_made_of_part_and_count_and_only_what_can_be_used_goes(tmp_path: Path) -> None:
    made = pushed(manifest(tmp_path))
    uris = ["train/0/0.jpg", "train/1/1.jpg", "train/2/2.jpg", "validation/3/3.jpg"]  # 4 is beyond, 5 has no label
    assert [row.photo.uri for row in made.rows] == uris
    assert made.digest == digest_of(made)


def test_without_parts_there_is_nothing_to_push(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="run `bintally split`"):
        push(manifest(tmp_path, split=False), open_store("memory://"))


def test_progress_is_told(tmp_path: Path) -> None:
    listener = Listener()
    report = push(manifest(tmp_path), open_store("memory://"), progress=listener)
    assert listener.told == ["listing the store None", "end", "pushing photos 4", "end"]
    assert listener.steps == 4
    assert report.line().startswith("4 photos in memory://: 5 objects sent")
    assert report.as_json()["stale"] == 0


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_photos_that_are_not_what_the_manifest_says_end_it_before_the_manifest(tmp_path: Path, fault: str) -> None:
    made, store = manifest(tmp_path), open_store("memory://")
    if fault == "changed":
        (tmp_path / "2.JPG").write_bytes(b"x" * 50)
    else:
        (tmp_path / "2.JPG").unlink()
    with pytest.raises(ManifestError, match=r"has changed since|cannot read .*2\.JPG: No such file"):
        push(made, store)
    assert not asyncio.run(store.exists("split.parquet"))


class Forgetful(Store):
    """Keeps other bytes than it was given, `faults` times, and gives no MD5."""

    faults = 0

    async def put(self, name: str, data: bytes | Path) -> str | None:
        assert isinstance(data, bytes)
        if name == "train/1/1.jpg" and self.faults:
            self.faults -= 1
            data = data[:-1] + b"?"
        return await super().put(name, data)


def forgetful(faults: int) -> Forgetful:
    inner = open_store("memory://")
    store = Forgetful(inner._inner, inner.url, inner._settings)
    store.faults = faults
    return store


def test_what_a_store_keeps_wrong_is_noticed_and_sent_again(tmp_path: Path) -> None:
    store = forgetful(2)
    assert push(manifest(tmp_path), store, settings=PushSettings(attempts=3)).sent == 5
    assert asyncio.run(store.get("train/1/1.jpg")) == b"\1" * 50
    with pytest.raises(StoreError, match=r"train/1/1\.jpg: the store keeps other bytes than it was sent \(2 tries\)"):
        push(manifest(tmp_path), forgetful(9), settings=PushSettings(attempts=2))
