"""A small split whose photos are whole JPEGs of noise, for what pushes, mirrors and reads class folders."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bintally.bins import BinPhoto
from bintally.counts import CountRange
from bintally.data.manifest import PARTS, Manifest, Row, SplitInfo, write_manifest


def noise(seed: int) -> bytes:
    out = io.BytesIO()
    luck = np.random.default_rng(seed)
    Image.fromarray(luck.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


def row_of(folder: Path, name: str, count: int, part: Any, seed: int) -> Row:
    data = noise(seed)
    (folder / "bin-images").mkdir(parents=True, exist_ok=True)
    (folder / f"bin-images/{name}.jpg").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    return Row(
        photo=BinPhoto(photo_id=name, uri=f"bin-images/{name}.jpg", sha256=sha256, width=20, height=20),
        num_bytes=len(data),
        blur=1.0,
        look="0" * 16,
        record=None,
        expected_quantity=count,
        label=count,
        label_source="record",
        group=name,
        part=part,
    )


def small_split(folder: Path) -> Manifest:
    """Twelve photos of 0 to 5+ items, one of them left out of the split; written as split.parquet beside bins/."""
    rows = [row_of(folder / "bins", f"{n:05d}", n % 8, PARTS[n % 4] if n else None, n) for n in range(12)]
    info = SplitInfo(
        counts=CountRange(lowest=0, highest=5, open_ended=True),
        seed=0,
        fractions=(0.25, 0.25, 0.25, 0.25),
        shuffled=False,
    )
    return write_manifest(folder / "split.parquet", Manifest(root=folder / "bins", rows=tuple(rows), split=info))


def class_folders(folder: Path, *names: str) -> Path:
    """A photo for each "train/3/x.jpg"."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise(seed))
    return folder
