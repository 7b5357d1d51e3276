"""Small photos whose count can be seen, with a split manifest over them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw

from bintally.bins import BinPhoto, BinRecord, Item
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, Part, Row, SplitInfo, write_manifest
from bintally.files import sha256_of
from bintally.learn.recipe import Recipe, read_recipe

MakeManifest = Callable[..., Manifest]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kept activations of tests do not go to the person's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A "pretrained" backbone, small and random, as a local snapshot folder: it can be frozen."""
    torch.manual_seed(7)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16], depths=[1, 1, 1], layer_type="basic", hidden_act="relu"
    )
    folder = tmp_path_factory.mktemp("snapshot")
    transformers.ResNetModel(config).save_pretrained(folder)
    return str(folder)


def draw_squares(path: Path, count: int, side: int, luck: np.random.Generator) -> None:
    image = Image.fromarray(luck.integers(60, 110, (side, side, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, y = luck.uniform(0, side * 0.8, 2)
        draw.rectangle((x, y, x + side / 6, y + side / 6), fill=tuple(luck.integers(150, 255, 3).tolist()))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)


def squares_manifest(
    folder: Path,
    *,
    num: int = 40,
    side: int = 32,
    counts: CountRange | None = None,
    split: bool = True,
    most: int = 5,
    records: bool = False,
) -> Manifest:
    """`num` photos holding 0 to `most` squares; of every five, three train, one validates, one calibrates.

    With `records`, every fourth lies without one; the others name "many squares" or "few squares", a litre each.
    """
    luck = np.random.default_rng(0)
    parts: tuple[Part, ...] = ("train", "train", "train", "validation", "calibration")
    rows = []
    for index in range(num):
        count = int(luck.integers(0, most + 1))
        name = f"bin-images/{index:05d}.jpg"
        draw_squares(folder / name, count, side, luck)
        photo = BinPhoto(photo_id=f"{index:05d}", uri=name, sha256=sha256_of(folder / name), width=side, height=side)
        row = Row(
            photo=photo,
            num_bytes=(folder / name).stat().st_size,
            blur=1.0,
            look="0" * 16,
            record=_record(f"{index:05d}", count) if records and index % 4 else None,
            expected_quantity=count,
            label=count,
            label_source="record",
            group=photo.photo_id if split else None,
            part=parts[index % 5] if split else None,
        )
        rows.append(row)
    info = SplitInfo(counts=counts or CountRange(), seed=0, fractions=(0.6, 0.2, 0.2, 0.0), shuffled=False)
    made = Manifest(root=folder.resolve(), rows=tuple(rows), split=info if split else None)
    return write_manifest(folder / "split.parquet", made)


def _record(photo_id: str, count: int) -> BinRecord:
    name, side = ("many" if count > 2 else "few") + " squares", 3.937
    item = Item(sku="S", asin="A", name=name, quantity=count, size_in=(side, side, side), weight_lb=None)
    return BinRecord(bin_id=photo_id, items=(item,) if count else (), expected_quantity=count)


@pytest.fixture(scope="session")
def make_squares() -> MakeManifest:
    """`squares_manifest` itself."""
    return squares_manifest


@pytest.fixture
def make_manifest(tmp_path: Path) -> MakeManifest:
    """`squares_manifest` in this test's folder."""

    def make(**wishes: object) -> Manifest:
        return squares_manifest(tmp_path / "photos", **wishes)  # type: ignore[arg-type]

    return make


def tiny_recipe(**train: object) -> Recipe:
    settings = {"epochs": 2, "batch_size": 8, "precision": "32-true", "threads": 1, **train}
    flags = {"model": {"dropout": 0.1}, "train": settings, "pixels": {"size": 32}}
    return read_recipe("demo", flags, environ={})


@pytest.fixture
def tiny() -> Callable[..., Recipe]:
    """A recipe that trains in about a second; keywords go to [train]."""
    return tiny_recipe
