"""Fifty trials of head and optimizer against two epochs that compute the frozen layers again: ResNet50, real photos."""

import os
import tempfile
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from benchmarks import Row, Table
from benchmarks._real import some_photos
from benchmarks.frozen import recipe
from bintally.learn.material import TrainingData
from bintally.learn.shared import Shared
from bintally.learn.space import read_space
from bintally.learn.study import TuneSettings
from bintally.learn.train import try_out
from bintally.learn.tune import tune

TRIALS = 50


def main() -> Table:
    """Times the whole of `tune` (study, trials, files), with ten epochs a trial, and the same loop without keeping."""
    num = int(os.environ.get("BINTALLY_BENCH_PHOTOS", "2000"))
    with tempfile.TemporaryDirectory() as name, resources.as_file(resources.files("bintally") / "recipes") as recipes:
        folder = Path(name)
        manifest = some_photos(folder / "bins", num)
        asked = recipe(folder / "acts", epochs=10)
        space = read_space(recipes / "seed-wide.space.toml")
        wishes = TuneSettings(trials=TRIALS, repeat=0)

        shared = Shared(TrainingData.of(manifest))
        for part in shared.parts(asked):  # the alternative reads no files either
            part.photos.batch(range(len(part.photos)), lambda square, _: np.ascontiguousarray(square[:1, :1]))
        started = time.perf_counter()
        plain = replace(asked, train=replace(asked.train, epochs=2, keep_activations="off"))
        try_out(shared, plain)
        again = time.perf_counter() - started
        shared.close()

        times = {}
        for what, pruner in (("first", "asha"), ("kept", "asha"), ("whole", "none")):
            started = time.perf_counter()
            tune(asked, space, folder / "bins/split.parquet", folder / what, replace(wishes, pruner=pruner))
            times[what] = time.perf_counter() - started

    def row(what: str, seconds: float, limit: float | None) -> Row:
        ratio = again / seconds
        return Row(what=what, ours=f"{seconds:.1f} s", alternative=f"{again:.1f} s", ratio=ratio, limit=limit)

    return Table(
        title=f"{TRIALS} trials of up to 10 epochs / 2 epochs computing again, {num:,} real photos, ResNet50 frozen",
        rows=[
            row("activations kept, hopeless trials stopped", times["kept"], 1.0),
            row("activations kept, every trial to its end", times["whole"], None),
            row("activations computed first (two views)", times["first"], None),
        ],
    )
