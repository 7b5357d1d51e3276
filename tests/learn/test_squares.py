"""Decoded photos on disk: what was put comes back to the bit, to other runs too; bounds, damage and company."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file

from bintally.data.manifest import Manifest
from bintally.learn import loader, squares
from bintally.learn.checkpoint import same_bits
from bintally.learn.loader import Photos
from bintally.learn.recipe import Recipe
from bintally.learn.squares import Squares, SquareSettings
from bintally.learn.train import train
from bintally.pixels import PixelSpec

SPEC = PixelSpec(size=8)
BYTES = 8 * 8 * 3


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def square(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Squares]]:
    made: list[Squares] = []
    monkeypatch.setattr(squares, "_LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(squares, "_SPARE", 0)

    def make(spec: PixelSpec = SPEC, max_bytes: int = 1 << 20) -> Squares:
        made.append(Squares(spec, SquareSettings(folder=str(tmp_path / "squares"), max_gb=max_bytes / 1e9)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_what_is_put_comes_back_to_this_run_and_the_next(opened: Callable[..., Squares]) -> None:
    first = opened()
    for number in range(5):
        assert first.get(sha(number)) is None
        first.put(sha(number), square(number))
    first.put(sha(0), square(99))  # known already
    assert len(first) == 5
    for one in (first, opened()):  # the second one while the first one writes
        for number in range(5):
            found = one.get(sha(number))
            assert found is not None
            assert (found == square(number)).all()
        assert one.get(sha(7)) is None


def test_another_preprocessing_is_another_set(opened: Callable[..., Squares]) -> None:
    opened().put(sha(0), square(0))
    for spec in (PixelSpec(size=8, fit="pad"), PixelSpec(size=9)):
        assert len(opened(spec)) == 0
    assert len(opened(PixelSpec(size=8, mean=(0.0, 0.0, 0.0)))) == 1  # squares come before statistics


def test_who_comes_second_reads_along_and_writes_later(opened: Callable[..., Squares]) -> None:
    first, second = opened(), opened()
    first.put(sha(0), square(0))
    second.put(sha(1), square(1))
    assert second.get(sha(1)) is None  # not its turn
    assert second.get(sha(0)) is not None  # though it was opened before that was there
    first.close()
    second.put(sha(1), square(1))
    assert second.get(sha(1)) is not None
    assert len(opened()) == 2


def data_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.squares"), key=lambda path: path.stat().st_mtime)


def test_the_bound_holds_and_the_oldest_goes_first(opened: Callable[..., Squares], tmp_path: Path) -> None:
    bound = 32 * BYTES  # segments of two squares
    old = opened(max_bytes=bound)
    for number in range(30):
        old.put(sha(number), square(number))
    old.close()
    for age, path in enumerate(data_files(tmp_path)[::-1]):
        os.utime(path, (time.time() - 1000 - age,) * 2)
    gone = data_files(tmp_path)[0]
    new = opened(max_bytes=bound)
    for number in range(30, 38):
        new.put(sha(number), square(number))
    assert sum(path.stat().st_size for path in data_files(tmp_path)) <= bound
    assert not gone.exists()
    assert not gone.with_suffix(".index").exists()
    assert all(new.get(sha(number)) is not None for number in range(30, 38))
    new.close()
    assert len(opened(max_bytes=bound)) == 32


def test_what_a_run_uses_is_not_taken_away_and_the_rest_is_not_kept(opened: Callable[..., Squares]) -> None:
    bound = 32 * BYTES
    one = opened(max_bytes=bound)
    for number in range(50):
        one.put(sha(number), square(number))
    assert len(one) == 32
    assert all(one.get(sha(number)) is not None for number in range(32))
    assert one.get(sha(40)) is None
    nothing = opened(max_bytes=BYTES - 1)
    nothing.put(sha(60), square(60))
    assert nothing.get(sha(60)) is None


@pytest.mark.parametrize("damage", ["bits", "cut data", "cut index", "no data", "junk index"])
def test_damage_counts_as_not_there(opened: Callable[..., Squares], tmp_path: Path, damage: str) -> None:
    one = opened()
    for number in range(3):
        one.put(sha(number), square(number))
    one.close()
    (data,) = data_files(tmp_path)
    index, body = data.with_suffix(".index"), bytearray(data.read_bytes())
    if damage == "bits":
        body[2 * BYTES + 5] ^= 1
        data.write_bytes(body)
    elif damage == "cut data":
        data.write_bytes(body[: 2 * BYTES + 7])
    elif damage == "cut index":
        index.write_bytes(index.read_bytes()[:-1])
    elif damage == "no data":
        data.unlink()
    else:
        index.write_bytes(b"\n".join([*index.read_bytes().split(b"\n")[:2], b"junk", b"\xff\xfe 12", b"00 zz", b""]))
    again = opened()
    assert again.get(sha(2)) is None
    assert (again.get(sha(1)) is None) == (damage == "no data")
    again.put(sha(2), square(2))
    found = again.get(sha(2))
    assert found is not None
    assert (found == square(2)).all()


def test_a_folder_that_cannot_be_written_does_no_harm(opened: Callable[..., Squares], tmp_path: Path) -> None:
    (tmp_path / "squares").write_text("a file in its place")
    one = opened()
    one.put(sha(0), square(0))
    assert one.get(sha(0)) is None


def test_a_full_disk_does_no_harm(opened: Callable[..., Squares], monkeypatch: pytest.MonkeyPatch) -> None:
    one = opened()
    one.put(sha(0), square(0))

    def full(*_: object) -> tuple[int, int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(squares._Writer, "append", full)
    one.put(sha(1), square(1))
    one.put(sha(2), square(2))
    assert one.get(sha(0)) is not None
    assert one.get(sha(1)) is None


def test_a_run_decodes_each_photo_once_and_the_next_run_none(
    make_manifest: Callable[..., Manifest],
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest, read, decoded = make_manifest(num=20), loader.read_square, []

    def count(*words: Any) -> NDArray[np.uint8]:
        decoded.append(1)
        return read(*words)

    monkeypatch.setattr(loader, "read_square", count)
    on_disk = SquareSettings(folder=str(tmp_path / "squares"), max_gb=0.1)
    off = replace(tiny(epochs=2, cache_mb=0, batch_size=4), squares=SquareSettings(max_gb=0.0))
    numbers = []
    for name, recipe in (("off", off), ("a", replace(off, squares=on_disk)), ("b", replace(off, squares=on_disk))):
        decoded.clear()
        train(manifest, tmp_path / name, recipe)
        numbers.append(len(decoded))
    assert numbers == [32, 16, 0]  # 12 photos to train on and 4 to validate on, twice
    states = [load_file(tmp_path / name / "model.safetensors") for name in ("off", "a", "b")]
    assert same_bits(states[0], states[1])
    assert same_bits(states[0], states[2])


def test_a_photo_that_changed_is_not_kept_under_its_old_hash(
    make_manifest: Callable[..., Manifest], opened: Callable[..., Squares]
) -> None:
    manifest = make_manifest(num=4)
    paths = [manifest.path_of(row) for row in manifest.rows]
    paths[0].write_bytes(paths[1].read_bytes())
    photos, kept = Photos(paths, SPEC, cache_mb=0), opened()
    photos.keep_on_disk(kept, [row.photo.sha256 for row in manifest.rows])
    photos.batch(range(4))
    assert len(kept) == 3
    assert kept.get(manifest.rows[0].photo.sha256) is None
    photos.close()
