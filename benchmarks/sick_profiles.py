"""Small profiles made sick on purpose, one for each profiler rule, and healthy ones: which rule fires where.

What a machine without a GPU can suffer from is suffered: a small network is profiled by the very code that profiles
a real training, with a loader that sleeps, steps that do, or memory that is never given back. What needs a GPU or a
slow disk is judged on samples as such a machine would give them, drawn with noise.
"""

import contextlib
import mmap
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from benchmarks._matrix import Matrix
from bintally.counts import CountRange
from bintally.files import sha256_of
from bintally.learn import loader
from bintally.learn.material import TrainingData
from bintally.learn.measure import ProfileSettings, measure
from bintally.learn.profiler_report import profiler_report
from bintally.learn.profiler_rules import PROFILER_RULES, MaxInitializationTime, load_profiler_rules
from bintally.learn.recipe import read_recipe
from bintally.learn.recording import ProfilerRule, Recording, StepTime
from bintally.learn.sampling import GpuSample, Sample
from bintally.progress import Silent

SEEDS = 10
SIDE = 32
PHOTOS = 96
BATCH = 4
SHORT = {"Dataloader": "Loader", "BatchSize": "Batch"}

Sickness = Callable[[np.random.Generator], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def nothing(luck: np.random.Generator) -> Iterator[None]:
    """Healthy."""
    yield


@contextlib.contextmanager
def sleepy_loader(luck: np.random.Generator) -> Iterator[None]:
    """Each photo takes 80 ms more to read, as from a store far away."""
    read = loader.read_square

    def slow(data: bytes, size: int) -> Any:
        time.sleep(0.08)
        return read(data, size)

    with mock.patch.object(loader, "read_square", slow):
        yield


@contextlib.contextmanager
def slow_start(luck: np.random.Generator) -> Iterator[None]:
    """Before the first photo there is a second of nothing."""
    read, once = loader.read_square, threading.Lock()

    def slow(data: bytes, size: int) -> Any:
        if once.acquire(blocking=False):
            time.sleep(1.0)
        return read(data, size)

    with mock.patch.object(loader, "read_square", slow):
        yield


@contextlib.contextmanager
def _at_each_step(what: Callable[[int], None]) -> Iterator[None]:
    step, number = torch.optim.AdamW.step, iter(range(1_000_000))

    def more(self: Any, *args: Any, **others: Any) -> Any:
        what(next(number))
        return step(self, *args, **others)

    with mock.patch.object(torch.optim.AdamW, "step", more):
        yield


@contextlib.contextmanager
def leak(luck: np.random.Generator) -> Iterator[None]:
    """Each step keeps 4 MB that nobody gives back."""
    kept: list[mmap.mmap] = []

    def keep(step: int) -> None:
        kept.append(mmap.mmap(-1, 4 << 20))
        kept[-1].write(b"x" * (4 << 20))

    with _at_each_step(keep):
        yield
    for one in kept:
        one.close()


@contextlib.contextmanager
def outliers(luck: np.random.Generator) -> Iterator[None]:
    """One step in sixteen takes longer by a fifth of a second, as when something else takes the machine."""
    first = int(luck.integers(16))

    def sleep(step: int) -> None:
        if step % 16 == first:
            time.sleep(0.2)

    with _at_each_step(sleep):
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Samples as a machine with GPUs would give them, means of what is drawn."""

    cpu: float = 45.0
    io_wait: float = 1.0
    gpus: tuple[float, ...] = (92.0, 92.0)
    memory: float = 80.0
    memory_rise: float = 0.0
    starved: float = 0.0
    workers: int = 8

    def recording(self, luck: np.random.Generator) -> Recording:
        """Sixty samples, and steps that are as they should be. `starved` of the time the GPUs have nothing to do."""
        samples = []
        hungry = np.zeros(60, dtype=bool)
        hungry[luck.permutation(60)[: round(60 * self.starved)]] = True
        for k in range(60):
            noise = luck.normal(0, 2, 3 + len(self.gpus))
            memory = self.memory + self.memory_rise * k / 59 + 0.1 * noise[2]
            gpus = tuple(
                GpuSample(
                    index=index,
                    percent=float(np.clip((3.0 if hungry[k] else mean) + noise[3 + index], 0, 100)),
                    memory_percent=float(memory),
                    memory_mb=float(memory * 800),
                )
                for index, mean in enumerate(self.gpus)
            )
            cpu = tuple(float(np.clip(self.cpu + noise[0] + luck.normal(), 0, 100)) for _ in range(8))
            io_wait = float(np.clip(self.io_wait + noise[1], 0, 100))
            samples.append(Sample(time=k / 10, cpu=cpu, io_wait=io_wait, rss_mb=4000.0, gpus=gpus))
        steps = [
            StepTime(step=k, waiting=0.002, forward=float(0.1 + luck.normal(0, 0.002)), rss_mb=4000.0 + luck.normal())
            for k in range(1, 121)
        ]
        return Recording(steps=steps, samples=samples, setup_seconds=30.0, workers=self.workers, cores=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One profile: a healthy one of this machine by default. With `machine`, samples are drawn instead."""

    rule: str = ""
    sick: Sickness = nothing
    epoch: str = "later"
    steps: int = 176
    machine: Machine | None = None
    rules: dict[str, ProfilerRule] = field(default_factory=load_profiler_rules)


CASES = {
    "healthy": Case(),
    "healthy, GPUs (drawn)": Case(machine=Machine()),
    "a loader that sleeps": Case(rule="Dataloader", sick=sleepy_loader, epoch="first", steps=20),
    "outlier steps": Case(rule="StepOutlier", sick=outliers),
    "a leak": Case(rule="MemoryIncrease", sick=leak, steps=40),
    "a slow start": Case(
        rule="MaxInitializationTime",
        sick=slow_start,
        epoch="first",
        steps=20,
        rules=load_profiler_rules() | {"MaxInitializationTime": MaxInitializationTime(threshold=0.8 / 60)},
    ),
    "a slow disk (drawn)": Case(rule="IOBottleneck", machine=Machine(io_wait=70.0, gpus=(), cpu=20.0)),
    "sixty-four loader threads (drawn)": Case(rule="Dataloader", machine=Machine(workers=64)),
    "small batches (drawn)": Case(rule="BatchSize", machine=Machine(gpus=(50.0, 50.0), memory=20.0)),
    "GPUs half idle (drawn)": Case(rule="LowGPUUtilization", machine=Machine(gpus=(50.0, 50.0))),
    "starved by processors (drawn)": Case(rule="CPUBottleneck", machine=Machine(cpu=97.0, starved=0.7)),
    "a leak on the GPU (drawn)": Case(rule="GPUMemoryIncrease", machine=Machine(memory=50.0, memory_rise=20.0)),
    "one GPU for two (drawn)": Case(rule="LoadBalancing", machine=Machine(gpus=(98.0, 74.0))),
}


def fired(case: Case, seed: int, folder: Path) -> set[str]:
    """Profiles once and tells which rules fired."""
    luck = np.random.default_rng(seed)
    recording = case.machine.recording(luck) if case.machine else _profiled(case, seed, luck, folder)
    return {name for name, one in profiler_report(case.rules, recording).items() if one["RuleTriggered"]}


def _profiled(case: Case, seed: int, luck: np.random.Generator, folder: Path) -> Recording:
    how = ProfileSettings(steps=case.steps, warmup=5, traced=0, interval=0.05, epoch=case.epoch)  # type: ignore[arg-type]
    flags = {
        "train": {"batch_size": BATCH, "threads": 1, "seed": seed, "precision": "32-true"},
        "augment": dict.fromkeys(("shift", "scale", "brightness", "contrast"), 0.0),
        "pixels": {"size": SIDE},
    }
    recipe = read_recipe("demo", flags, environ={})
    with case.sick(luck):
        data = _photos(luck, folder)
        return measure(data, recipe, how, case.steps, "", Silent(), folder, sampled=True).recording


def _photos(luck: np.random.Generator, folder: Path) -> TrainingData:
    """Noise: what it shows does not matter here."""
    paths = tuple(folder / f"{number}.jpg" for number in range(PHOTOS))
    for path in paths:
        Image.fromarray(luck.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)).save(path)
    hashes = tuple(sha256_of(path) for path in paths)
    return TrainingData(
        counts=CountRange(),
        train_paths=paths[16:],
        train_sha256s=hashes[16:],
        train_classes=luck.integers(0, 6, PHOTOS - 16),
        train_labels=np.zeros(PHOTOS - 16, dtype=np.int64),
        train_groups=hashes[16:],
        train_records=(None,) * (PHOTOS - 16),
        validation_paths=paths[:16],
        validation_sha256s=hashes[:16],
        validation_groups=hashes[:16],
        validation_labels=luck.integers(0, 6, 16),
        open_mean=None,
        line="noise",
    )


def matrix(cases: dict[str, Case], seeds: int = SEEDS) -> Matrix:
    """Profiles every case with every seed."""
    table: dict[str, dict[str, int]] = {}
    for name, case in cases.items():
        table[name] = dict.fromkeys(PROFILER_RULES, 0)
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                for rule in fired(case, seed, Path(folder)):
                    table[name][rule] += 1
    own = {name: case.rule for name, case in cases.items()}
    return Matrix(table=table, seeds=seeds, own=own, rules=list(PROFILER_RULES), short=SHORT)


def main() -> Matrix:
    """All cases, ten seeds."""
    torch.set_num_threads(1)
    return matrix(CASES)
