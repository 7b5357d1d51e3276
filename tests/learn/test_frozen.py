"""Kept activations: right to the bit, computed once, bounded, whole after a kill, shared by processes."""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bintally.learn import frozen
from bintally.learn.frozen import KeepSettings, NotKeptError, Wanted, keep, weights_digest
from bintally.learn.model import CountModel, _new, tiny_config
from bintally.pixels import PixelSpec, normalise
from bintally.progress import Silent

SPEC = PixelSpec(size=32)
SHAS = [hashlib.sha256(bytes([n])).hexdigest() for n in range(10)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


class Photos:
    """Ten squares, and how many of them were asked for."""

    def __init__(self) -> None:
        self.squares = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
        self.num_read = 0

    def __call__(self, places: Sequence[int]) -> NDArray[np.uint8]:
        self.num_read += len(places)
        return self.squares[list(places)]


def network(unfrozen_stages: int = 0, seed: int = 0) -> CountModel:
    torch.manual_seed(seed)
    return CountModel(_new(tiny_config()), 6, unfrozen_stages=unfrozen_stages).eval()


def kept(model: CountModel, folder: Path, photos: Photos, wanted: list[Wanted] | None = None, **other: Any) -> Any:
    settings = {name: other.pop(name) for name in ("max_gb", "at_once") if name in other}
    return keep(
        model,
        [Wanted(sha256=sha) for sha in SHAS] if wanted is None else wanted,
        photos,
        other.pop("spec", SPEC),
        forward=other.pop("forward", model.frozen_features),
        precision=other.pop("precision", "32-true"),
        settings=KeepSettings(folder=str(folder), **settings),
        progress=other.pop("progress", Silent()),
    )


@pytest.mark.parametrize("unfrozen", [0, 1, 3])
@pytest.mark.parametrize("in_memory", [True, False])
def test_gives_what_computing_again_gives(
    tmp_path: Path, unfrozen: int, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "IN_MEMORY", frozen.IN_MEMORY if in_memory else 0)
    monkeypatch.setattr(frozen, "_CHUNK", 1)
    model, photos = network(unfrozen), Photos()
    store = kept(model, tmp_path, photos, at_once=4)
    picked = [7, 2, 2, 9]
    for view in frozen.VIEWS:
        squares = photos.squares[picked]
        x = torch.from_numpy(normalise(squares[:, :, ::-1].copy() if view == "mirrored" else squares, SPEC))
        held = store.take(store.rows([SHAS[n] for n in picked], view))
        with torch.no_grad():
            again = model(x)
            from_kept = model.logits_of(model.last_features(held))
        assert torch.equal(again, from_kept)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 5
    assert held.shape[2:] == ((1, 1) if unfrozen == 0 else held.shape[2:])


def test_bfloat16_is_kept_as_it_is(tmp_path: Path) -> None:
    model, photos = network(1), Photos()

    def forward(x_NCHW: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model.frozen_features(x_NCHW)

    store = kept(model, tmp_path, photos, forward=forward)
    assert store.dtype == torch.bfloat16
    whole = forward(torch.from_numpy(normalise(photos.squares, SPEC)))
    assert torch.equal(store.take(store.rows(SHAS, "plain")), whole)
    assert store.num_bytes == 2 * whole.nbytes


def test_computed_once_and_the_size_told_before(tmp_path: Path) -> None:
    model, photos, told = network(), Photos(), Told()
    first = kept(model, tmp_path, photos, progress=told)
    assert (first.computed, photos.num_read) == (20, 20)
    assert told.lines == [f"kept activations: 10 kB for 20 views, in {tmp_path}"]
    second = kept(model, tmp_path, photos, progress=told)
    assert (second.computed, photos.num_read, len(told.lines)) == (0, 20, 1)


def test_the_mean_of_the_inputs_is_noted_with_them(tmp_path: Path) -> None:
    model, photos = network(), Photos()
    kept(model, tmp_path, photos, at_once=4)
    means = kept(model, tmp_path, photos).input_means  # read back from disk
    expected = normalise(photos.squares, SPEC).mean(axis=(1, 2, 3))
    assert [means[sha] for sha in SHAS] == pytest.approx(expected.tolist(), abs=1e-5)


def test_more_photos_and_views_are_added(tmp_path: Path) -> None:
    model, photos = network(), Photos()
    kept(model, tmp_path, photos, [Wanted(sha256=sha, views=("plain",)) for sha in SHAS])
    more = kept(model, tmp_path, photos, [Wanted(sha256=SHAS[0]), Wanted(sha256=SHAS[0]), Wanted(sha256=SHAS[1])])
    assert more.computed == 2
    with pytest.raises(KeyError):
        more.rows([SHAS[2]], "plain")


@pytest.mark.parametrize("change", ["weights", "depth", "size", "precision", "mean", "fit"])
def test_another_network_or_preprocessing_is_another_set(tmp_path: Path, change: str) -> None:
    photos = Photos()
    kept(network(1), tmp_path, photos)
    model = network(1, seed=1) if change == "weights" else network(2 if change == "depth" else 1)
    spec = PixelSpec(mean=(0.5, 0.5, 0.5), size=32) if change == "mean" else SPEC
    if change == "fit":
        spec = PixelSpec(size=32, fit="pad")
    if change == "size":
        photos.squares, spec = photos.squares[:, :16, :16], PixelSpec(size=16)
    assert kept(model, tmp_path, photos, spec=spec, precision="x" if change == "precision" else "32-true").computed


def test_the_digest_is_of_frozen_weights_alone() -> None:
    one, two = network(1), network(1)
    assert weights_digest(one) == weights_digest(two)
    with torch.no_grad():
        two.head.weight.add_(1)
        next(two.backbone.encoder.stages[-1].parameters()).add_(1)  # type: ignore[union-attr,index,operator]
    assert weights_digest(one) == weights_digest(two)
    with torch.no_grad():
        next(two.frozen_parts[0].buffers()).add_(1)
    assert weights_digest(one) != weights_digest(two)


def test_above_the_bound_nothing_is_computed(tmp_path: Path) -> None:
    photos = Photos()
    with pytest.raises(NotKeptError, match=r"10 kB, above the bound of 9 kB \(keep.max_gb\)"):
        kept(network(), tmp_path, photos, max_gb=9e-6)
    assert photos.num_read == 0
    assert kept(network(), tmp_path, photos, max_gb=11e-6).computed == 20


def test_sets_unused_for_longest_make_room(tmp_path: Path) -> None:
    photos = Photos()
    for seed in range(2):
        kept(network(seed=seed), tmp_path, photos)
    for folder in tmp_path.iterdir():
        os.utime(folder, (time.time() - 9000,) * 2)
    kept(network(seed=1), tmp_path, photos)  # used again: the other one is older now
    assert kept(network(seed=2), tmp_path, photos, max_gb=25e-6).computed == 20
    assert kept(network(seed=1), tmp_path, photos).computed == 0
    assert kept(network(seed=0), tmp_path, photos).computed == 20
    with pytest.raises(NotKeptError, match="in use"):
        kept(network(seed=3), tmp_path, photos, max_gb=25e-6)


def test_a_full_disk_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = Photos()
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda _: _Usage(1000))
    with pytest.raises(NotKeptError, match="the disk has 1 kB left"):
        kept(network(), tmp_path, photos)
    assert photos.num_read == 0


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_after_a_kill_what_was_whole_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "_CHUNK", 1)
    photos = Photos()

    def dies(places: Sequence[int]) -> NDArray[np.uint8]:
        if photos.num_read >= 12:
            raise KeyboardInterrupt
        return photos(places)

    with pytest.raises(KeyboardInterrupt):
        kept(network(), tmp_path, dies, at_once=4)  # type: ignore[arg-type]
    folder = next(tmp_path.iterdir())
    (folder / ".half.safetensors.x.part").write_bytes(b"half")
    again = kept(network(), tmp_path, photos, at_once=4)
    assert again.computed == 6
    assert not list(folder.glob(".*.part"))


def test_a_damaged_chunk_is_computed_again(tmp_path: Path) -> None:
    photos = Photos()
    store = kept(network(), tmp_path, photos)
    chunk = next(tmp_path.rglob("*.safetensors"))
    chunk.write_bytes(chunk.read_bytes()[:-9])
    again = kept(network(), tmp_path, photos)
    assert again.computed == 20
    rows = store.rows(SHAS, "mirrored"), again.rows(SHAS, "mirrored")
    assert torch.equal(store.take(rows[0]), again.take(rows[1]))


def test_two_writers_compute_it_once(tmp_path: Path) -> None:
    # The lock is of an open file: two threads exclude each other as two processes do.
    photos, told = Photos(), Told()

    def slowly(places: Sequence[int]) -> NDArray[np.uint8]:
        time.sleep(0.05)
        return photos(places)

    model = network()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(kept, model, tmp_path, slowly, at_once=4, progress=told) for _ in range(2)]
    assert sorted(one.result().computed for one in both) == [0, 20]
    assert any("another process computes these" in line for line in told.lines)


def test_kept_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert KeepSettings().path == tmp_path / "bintally" / "activations"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert KeepSettings().path == Path.home() / ".cache" / "bintally" / "activations"
    assert KeepSettings(folder="~/x").path == Path.home() / "x"
