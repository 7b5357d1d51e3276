"""The engine against torch eager float32, on decoded photos in memory, and how long it takes to be ready.

BINTALLY_RUN names a run, BINTALLY_MODELS its exported models (folders, separated by colons), BINTALLY_ABID a folder of
photos laid out like the public dataset. As many clients as there are cores times two, one photo a request, each
waiting for its answer; torch the same photos in batches of 32, its best.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import Row, Table
from bintally import pixels
from bintally.learn.model import load_run_model
from bintally.serve.engine import Engine

NUM_PHOTOS = 64
SECONDS = 3.0
ROUNDS = 5
LIMITS = {"int8": 4.0, "bfloat16": 2.0, "float32": 1.3}


def main() -> Table:
    """Rates are measured in turn, `ROUNDS` times; the ratio is the median of the rounds'."""
    try:
        run, models, abid = (os.environ[name] for name in ("BINTALLY_RUN", "BINTALLY_MODELS", "BINTALLY_ABID"))
    except KeyError as error:
        raise SystemExit(f"this benchmark needs the variable {error}") from error
    paths = sorted((Path(abid) / "bin-images").glob("*.jpg"))[:NUM_PHOTOS]
    engines = [Engine.load(Path(folder)) for folder in models.split(":")]
    squares = np.stack([pixels.read_square(path.read_bytes(), engines[0].card.pixels.size) for path in paths])
    eager = _eager(Path(run), squares)
    rows = []
    for engine in engines:
        precision = engine.card.precision
        rates = [(_rate_of_clients(engine, squares), _rate(eager)) for _ in range(ROUNDS)]
        ours, other = (statistics.median(values) for values in zip(*rates, strict=True))
        ratio = statistics.median(one / two for one, two in rates)
        what = f"{precision}, one photo a request, against torch eager float32"
        told = {"ours": f"{ours:,.0f}/s", "alternative": f"{other:,.0f}/s"}
        rows.append(Row(what=what, **told, ratio=ratio, limit=LIMITS[precision]))
        alone = statistics.median(_rate(lambda e=engine: _one(e, squares)) for _ in range(ROUNDS))
        eager_alone = statistics.median(_rate(_eager(Path(run), squares[:1])) for _ in range(ROUNDS))
        told = {"ours": f"{1e3 / alone:.1f} ms", "alternative": f"{1e3 / eager_alone:.1f} ms"}
        rows.append(
            Row(
                what=f"{precision}, one client: time a photo",
                **told,
                ratio=eager_alone / alone,
                at_most=True,
                limit=1.0,
            )
        )
    for folder in models.split(":"):
        seconds = min(_start(folder, paths[0]) for _ in range(3))
        rows.append(
            Row(
                what=f"{Path(folder).name}: a new process, from start to its first answer",
                ours=f"{seconds:.2f} s",
                alternative="3 s",
                ratio=seconds / 3.0,
                limit=1.0,
                at_most=True,
            )
        )
    return Table(title=f"The engine on {os.cpu_count()} cores, {len(paths)} photos", rows=rows)


def _eager(run: Path, squares: NDArray[np.uint8]) -> Callable[[], int]:
    model, card = load_run_model(run)
    x = torch.from_numpy(pixels.normalise(squares[:32], card.pixels))

    def ask() -> int:
        with torch.inference_mode():
            model(x)
        return len(x)

    ask()
    return ask


def _one(engine: Engine, squares: NDArray[np.uint8]) -> int:
    engine.logits(squares[:1])
    return 1


def _rate(ask: Callable[[], int]) -> float:
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        done += ask()
    return done / (time.perf_counter() - start)


def _rate_of_clients(engine: Engine, squares: NDArray[np.uint8]) -> float:
    end = time.perf_counter() + SECONDS

    def client(number: int) -> int:
        done = 0
        while time.perf_counter() < end:
            place = (number + done) % len(squares)
            engine.logits(squares[place : place + 1])
            done += 1
        return done

    num_clients = 2 * engine.concurrency
    with ThreadPoolExecutor(num_clients) as pool:
        return sum(pool.map(client, range(num_clients))) / SECONDS


def _start(folder: str, photo: Path) -> float:
    code = (
        "import sys; from pathlib import Path; from bintally.serve.engine import Engine\n"
        "Engine.load(Path(sys.argv[1])).count([Path(sys.argv[2]).read_bytes()])"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, folder, str(photo)], check=True)
    return time.perf_counter() - start
