"""A directory tree laid out as a training container's, and the program started in it as the service starts it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]

QUICK = {
    "recipe": "demo",
    "train.epochs": "2",
    "train.batch_size": "8",
    "train.threads": "1",
    "train.precision": "32-true",
    "pixels.size": "32",
    "evaluate.resamples": "100",
    "evaluate.simulations": "100",
}


def draw_bin(path: Path, count: int, seed: int) -> None:
    luck = np.random.default_rng(seed)
    image = Image.fromarray(luck.integers(60, 110, (36, 36, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(count):
        x, y = luck.uniform(0, 28, 2)
        draw.rectangle((x, y, x + 6, y + 6), fill=tuple(luck.integers(150, 255, 3).tolist()))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=90)


def class_folders(folder: Path, *, num: int = 40, parts: Sequence[str] = ("train", "validation", "test")) -> Path:
    """`num` photos of 0 to 3 squares in each part's class folders; a quarter as many in parts but train."""
    for place, part in enumerate(parts):
        for index in range(num if part == "train" else num // 4):
            draw_bin(folder / part / str(index % 4) / f"{place}{index:04d}.jpg", index % 4, 1000 * place + index)
    return folder


def lay_out(
    root: Path, hyperparameters: Mapping[str, str], *, hosts: Sequence[str] = ("algo-1",), host: str = "algo-1"
) -> Path:
    """The tree's configuration; the data are the caller's."""
    config = root / "input/config"
    config.mkdir(parents=True, exist_ok=True)
    (root / "input/data").mkdir(exist_ok=True)
    (root / "model").mkdir(exist_ok=True)
    (config / "hyperparameters.json").write_text(json.dumps(dict(hyperparameters)))
    resources = {"current_host": host, "hosts": list(hosts), "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    return root


def environment(root: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "MASTER_", "BINTALLY_"))}
    kept |= {"BINTALLY_OPT_ML": str(root), "XDG_CACHE_HOME": str(root.parent / "cache"), "OMP_NUM_THREADS": "1"}
    return kept | more


@contextlib.contextmanager
def job(root: Path, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """The program as a container starts it; its output is in `root`/log."""
    with (root / "log").open("a") as log:
        program = subprocess.Popen(
            [sys.executable, "-m", "bintally", "train", *words],
            env=environment(root, **more),
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield program
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)  # with whatever it started, however the test ended
            program.wait()


def finished(root: Path, *, seconds: float = 900.0, **more: str) -> tuple[int, str]:
    """Runs a job to its end. Returns exit code and log."""
    with job(root, **more) as program:
        code = program.wait(timeout=seconds)
    return code, (root / "log").read_text()


def stopped_when(root: Path, line: str, *, seconds: float = 900.0) -> tuple[int, str, float]:
    """Runs a job and sends SIGTERM once its log holds `line`. Returns exit code, log, and how long it took to end."""
    with job(root) as program:
        until = time.monotonic() + seconds
        while line not in (root / "log").read_text():
            assert program.poll() is None, (root / "log").read_text()
            assert time.monotonic() < until, f"{line!r} never came"
            time.sleep(0.05)
        program.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        code = program.wait(timeout=seconds)
        return code, (root / "log").read_text(), time.monotonic() - sent
