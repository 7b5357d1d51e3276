"""Training all of a ResNet50 on real photos, loader included, against the plain loop; and how long a step waits.

The plain loop is what a notebook does: float32, torch's own memory order, Pillow in the loop, nothing kept.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import Row, Table
from benchmarks._real import backbone, some_photos
from bintally.data.manifest import Manifest
from bintally.learn.listen import Listener
from bintally.learn.material import TrainingData
from bintally.learn.model import ModelSettings, build_model
from bintally.learn.recipe import read_recipe
from bintally.learn.train import train
from bintally.pixels import IMAGENET_MEAN, IMAGENET_STD

BATCH = 16
WARM_UP = 2
"""Steps of either side that are not counted: buffers are made and kernels chosen in them."""


class Clock(Listener):
    """Notes when each step had its batch, and when it was done."""

    def __init__(self) -> None:
        self.loaded: list[float] = []
        self.done: list[float] = []

    def on_loaded(self, step: int) -> None:
        """A step's batch is there."""
        self.loaded.append(time.perf_counter())

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """A step is done."""
        self.done.append(time.perf_counter())


def ours(manifest: Manifest, folder: Path) -> tuple[list[float], float]:
    """Seconds of each step of `bintally train` over its first two epochs, and the share of the time spent waiting.

    The first one decodes every photo, the second one finds them in memory; validation between them is left out.
    """
    flags = {
        "model": {"backbone": backbone(), "unfrozen_stages": 5},
        "train": {"epochs": 2, "batch_size": BATCH, "checkpoint_every_seconds": 1e6, "patience": 0},
        "augment": {"flip": 0.5, "shift": 0.1, "scale": 0.1, "brightness": 0.1, "contrast": 0.1},
    }
    clock = Clock()
    train(manifest, folder / "run", read_recipe("seed", flags, environ={}), listeners=[clock])
    # From the end of one step to the end of the next; the step after a validation has no such beginning.
    steps = len(clock.done) // 2
    counted = [step for step in range(WARM_UP, 2 * steps) if step != steps]
    seconds = [clock.done[step] - clock.done[step - 1] for step in counted]
    waited = [clock.loaded[step] - clock.done[step - 1] for step in counted]
    return seconds, sum(waited) / sum(seconds)


def plain(manifest: Manifest, num_steps: int) -> list[float]:
    """Seconds of each step of the plain loop."""
    data = TrainingData.of(manifest)
    torch.manual_seed(0)
    model = build_model(ModelSettings(backbone=backbone(), unfrozen_stages=5), data.counts).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        luck = np.random.default_rng(0)
        while True:
            order = luck.permutation(len(data.train_paths))
            for start in range(0, len(order) - BATCH + 1, BATCH):
                chosen = order[start : start + BATCH]
                images = []
                for index in chosen:
                    with Image.open(data.train_paths[index]) as image:
                        square = image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
                    photo = np.asarray(square, dtype=np.float32) / 255
                    photo = photo[:, ::-1] if luck.random() < 0.5 else photo
                    images.append(((photo - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(2, 0, 1))
                yield torch.from_numpy(np.stack(images)), torch.from_numpy(data.train_classes[chosen])

    ends: list[float] = []
    for x, y in batches():
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        ends.append(time.perf_counter())
        if len(ends) == WARM_UP + num_steps:
            break
    return np.diff(ends)[WARM_UP - 1 :].tolist()


def plain_alone(manifest: Manifest, num_steps: int) -> list[float]:
    """The same in a process of its own, as a notebook is one: ours sets how memory is kept in its process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(plain, manifest, num_steps).result()


def main() -> Table:
    """The plain loop before and after ours, since machines drift; steps by their median."""
    num = int(os.environ.get("BINTALLY_BENCH_PHOTOS", "500"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = some_photos(folder / "bins", num)
        theirs = plain_alone(manifest, num_steps=6)
        own, waiting = ours(manifest, folder)
        theirs += plain_alone(manifest, num_steps=6)
    rate, its_rate = (BATCH / float(np.median(one)) for one in (own, theirs))
    return Table(
        title=f"training all of a ResNet50 at 224 px, batch {BATCH}, loader included, {num:,} real photos",
        rows=[
            Row(
                what="bf16 channels-last, decoded once / float32, Pillow in the loop",
                ours=f"{rate:.1f} photos/s",
                alternative=f"{its_rate:.1f} photos/s",
                ratio=rate / its_rate,
                limit=2.2,
            ),
            Row(
                what="share of a step spent waiting for data",
                ours=f"{waiting:.2%}",
                alternative="",
                ratio=waiting,
                limit=0.03,
                at_most=True,
            ),
        ],
    )
