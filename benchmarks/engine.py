"""The engine against torch eager float32, on decoded photos in memory, and how long it takes to be ready.

BINTALLY_RUN names a run, BINTALLY_MODELS its exported models (folders, separated by colons); without them the model of
`_models.py` in float32 and int8. BINTALLY_ABID names a folder of photos laid out like the public dataset. As many clients
as there are cores times two, one photo a request, each waiting for its answer; torch the same photos in batches of 32,
its best.
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
from benchmarks._models import models
from benchmarks._servers import tell
from bintally import pixels
from bintally.learn.model import load_run_model
from bintally.serve.engine import Engine

NUM_PHOTOS = 64
SECONDS = 3.0
ROUNDS = 5
LIMITS = {"int8": 4.0, "bfloat16": 2.0, "float32": 1.3}


def main() -> Table:
    """Rates are measured in turn, `ROUNDS` times; the ratio is the median of the rounds'."""
    abid = os.environ.get("BINTALLY_ABID")
    if not abid:
        raise SystemExit("this benchmark needs BINTALLY_ABID, a folder of photos")
    run, folders = _given()
    paths = sorted((Path(abid) / "bin-images").glob("*.jpg"))[:NUM_PHOTOS]
    engines = [Engine.load(folder) for folder in folders]
    squares = np.stack([pixels.read_square(path.read_bytes(), engines[0].card.pixels) for path in paths])
    eager, eager_one = _eager(run, squares), _eager(run, squares[:1])
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
        eager_alone = statistics.median(_rate(eager_one) for _ in range(ROUNDS))
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
        tell(
            f"{precision}: {ours:.1f}/s, torch {other:.1f}/s; alone {1e3 / alone:.1f} ms, {1e3 / eager_alone:.1f} ms"
        )
    for folder in folders:
        seconds = min(_start(folder, paths[0]) for _ in range(3))
        rows.append(
            Row(
                what=f"{folder.name}: a new process, from start to its first answer, the best of three",
                ours=f"{seconds:.2f} s",
                alternative="3 s",
                ratio=seconds / 3.0,
                limit=1.0,
                at_most=True,
            )
        )
    return Table(title=f"The engine on {os.cpu_count()} cores, {len(paths)} photos", rows=rows)


def _given() -> tuple[Path, list[Path]]:
    run, exported = os.environ.get("BINTALLY_RUN"), os.environ.get("BINTALLY_MODELS")
    if run and exported:
        return Path(run), [Path(folder) for folder in exported.split(":")]
    if run or exported:
        raise SystemExit("this benchmark needs BINTALLY_RUN and BINTALLY_MODELS, or neither")
    made = models()
    return made.run, [made.float32, made.int8]


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
    start = time.perf_counter()
    end = start + SECONDS

    def client(number: int) -> int:
        done = 0
        while time.perf_counter() < end:
            place = (number + done) % len(squares)
            engine.logits(squares[place : place + 1])
            done += 1
        return done

    num_clients = 2 * engine.concurrency
    with ThreadPoolExecutor(num_clients) as pool:
        done = sum(pool.map(client, range(num_clients)))
    return done / (time.perf_counter() - start)  # the last answers come after the end


def _start(folder: Path, photo: Path) -> float:
    code = (
        "import sys; from pathlib import Path; from bintally.serve.engine import Engine\n"
        "Engine.load(Path(sys.argv[1])).count([Path(sys.argv[2]).read_bytes()])"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(folder), str(photo)], check=True)
    return time.perf_counter() - start
