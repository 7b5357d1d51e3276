"""An epoch over kept activations against the epoch that computes them: head alone, frozen ResNet50, real photos."""

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import Row, Table
from benchmarks._real import backbone, some_photos
from bintally.learn.listen import Listener
from bintally.learn.recipe import Recipe, read_recipe
from bintally.learn.train import train


class Clock(Listener):
    """Notes when each epoch ended."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """An epoch has ended, with its validation and its files."""
        self.times.append(time.perf_counter())

    def seconds(self, epoch: int) -> float:
        """How long an epoch took, from 1; the first one from when the clock was made."""
        return self.times[epoch] - self.times[epoch - 1]


def recipe(kept: Path, **settings: Any) -> Recipe:
    """`seed` over this machine's ResNet50: head alone, mirrored photos."""
    flags = {
        "model": {"backbone": backbone()},
        "train": {"epochs": 4, "patience": 0, **settings},
        "keep": {"folder": str(kept)},
    }
    return read_recipe("seed", flags, environ={})


def main() -> Table:
    """Times a training's epochs as `bintally train` runs it: validation and checkpoints belong to an epoch."""
    num = int(os.environ.get("BINTALLY_BENCH_PHOTOS", "800"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = some_photos(folder / "bins", num)
        again, clock = Clock(), Clock()
        train(manifest, folder / "again", recipe(folder, keep_activations="off", epochs=2), listeners=[again])
        clock = Clock()
        train(manifest, folder / "kept", recipe(folder / "acts"), listeners=[clock])
        size = sum(path.stat().st_size for path in (folder / "acts").rglob("*.safetensors"))
    second = sorted(clock.seconds(epoch) for epoch in (2, 3, 4))[1]
    first, usual = clock.seconds(1), again.seconds(2)
    return Table(
        title=f"kept activations, {num:,} real photos, ResNet50 frozen, head alone, {size / 1e6:.0f} MB kept",
        rows=[
            Row(
                what="a later epoch / the first, which computes both views",
                ours=f"{second:.2f} s",
                alternative=f"{first:.1f} s",
                ratio=first / second,
                limit=50,
            ),
            Row(
                what="a later epoch / one that computes again (photos decoded before)",
                ours=f"{second:.2f} s",
                alternative=f"{usual:.1f} s",
                ratio=usual / second,
            ),
        ],
    )
