"""Serving over HTTP: photos a second against other servers and the bare runtime, latency, overload, memory, start.

JPEGs as taken, from the folder that BINTALLY_ORIGINALS names. The load generator (`_load.py`, a process of its own)
shares the cores with the server; every server bears that alike. BINTALLY_BENCH_SECONDS (20) is how long each rate is
measured, twice, taking turns; BINTALLY_BENCH_OVERLOAD (60) how long the overload lasts; BINTALLY_BENCH_REQUESTS
(100,000) how many requests the memory is watched over, with a tiny model so that they take minutes.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import Row, Table
from benchmarks._load import Shot, load
from benchmarks._models import Models, models
from tests.model_folder import make_model
from tests.serve.stand_in import free_port

SECONDS = float(os.environ.get("BINTALLY_BENCH_SECONDS", "20"))
OVERLOAD = float(os.environ.get("BINTALLY_BENCH_OVERLOAD", "60"))
REQUESTS = int(os.environ.get("BINTALLY_BENCH_REQUESTS", "100000"))
CLIENTS = 8
ROOT = Path(__file__).parents[1]


class Running:
    """A server process."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.port = port
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        while not self.answers():
            if self.process.poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError(f"{' '.join(command)} does not serve")
            time.sleep(0.01)
        self.start_s = time.perf_counter() - began

    def answers(self) -> bool:
        """Whether it answers at all, whatever it says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    @property
    def resident_mb(self) -> float:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def ours(folder: Path, *settings: str) -> Iterator[Running]:
    """`bintally serve`."""
    port = free_port()
    words = [one for setting in settings for one in ("--set", setting)]
    with _running(
        [sys.executable, "-m", "bintally", "serve", str(folder), "--port", str(port), *words], port
    ) as made:
        yield made


@contextlib.contextmanager
def rival(name: str, folder: Path) -> Iterator[Running]:
    """One of `_rivals`."""
    port = free_port()
    with _running([sys.executable, "-m", "benchmarks._rivals", name, str(folder), str(port)], port) as made:
        yield made


@contextlib.contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[Running]:
    made = Running(command, port)
    try:
        yield made
    finally:
        os.killpg(made.process.pid, 15)
        try:
            made.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(made.process.pid, 9)
            made.process.wait()


def photo_files() -> list[Path]:
    """200 photos as taken."""
    folder = os.environ.get("BINTALLY_ORIGINALS")
    if not folder:
        raise SystemExit("this benchmark needs BINTALLY_ORIGINALS, a folder of full-size photos")
    return sorted((Path(folder) / "bin-images").glob("*.jpg"))[:200]


def rate(server: Running, photos: Sequence[Path]) -> float:
    """Photos a second with 8 clients."""
    load(server.port, photos, clients=CLIENTS, seconds=2)
    shots = load(server.port, photos, clients=CLIENTS, seconds=SECONDS)
    if any(shot.status != 200 for shot in shots):
        raise RuntimeError(f"not all were answered: {sorted({shot.status for shot in shots})}")
    return len(shots) / max(shot.due + shot.seconds for shot in shots)


def bare(folder: Path, photos: Sequence[Path], seconds: float) -> tuple[float, float]:
    """The runtime on decoded photos in memory, in a process of its own: photos a second, ms of one photo alone."""
    code = (
        "import json, sys; from benchmarks.serve import _bare; from pathlib import Path\n"
        "print(json.dumps(_bare(Path(sys.argv[1]), [Path(one) for one in sys.argv[3:]], float(sys.argv[2]))))"
    )
    words = [sys.executable, "-c", code, str(folder), str(seconds), *map(str, photos[:64])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    a_second, alone_ms = json.loads(done.stdout)
    return a_second, alone_ms


def _bare(folder: Path, photos: Sequence[Path], seconds: float) -> tuple[float, float]:
    import numpy as np

    from bintally.pixels import read_square
    from bintally.serve.engine import Engine

    engine = Engine.load(folder)
    squares = np.stack([read_square(path.read_bytes(), engine.card.pixels.size) for path in photos])

    def keep(size: int) -> float:
        done, stop = [0] * engine.concurrency, time.perf_counter() + seconds / 2

        def work(number: int) -> None:
            while time.perf_counter() < stop:
                engine.logits(squares[:size])
                done[number] += size

        began = time.perf_counter()
        with ThreadPoolExecutor(engine.concurrency) as pool:
            list(pool.map(work, range(engine.concurrency)))
        return sum(done) / (time.perf_counter() - began)

    times = []
    for place in range(60):
        began = time.perf_counter()
        engine.logits(squares[place : place + 1])
        times.append((time.perf_counter() - began) * 1e3)
    return max(keep(1), keep(8)), statistics.median(times)


def quantile(shots: Sequence[Shot], share: float) -> float:
    """Milliseconds within which that share was answered."""
    times = sorted(shot.seconds for shot in shots)
    return 1e3 * times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


def in_turns(measures: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The better of two rounds each, taking turns, so that a slow spell of the machine meets all."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(2):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: max(values) for name, values in found.items()}


def throughput(made: Models, photos: Sequence[Path]) -> tuple[list[Row], float]:
    """Against the others; gives our capacity in int8 too."""

    def of(context: Callable[[], contextlib.AbstractContextManager[Running]]) -> Callable[[], float]:
        def measure() -> float:
            with context() as server:
                return rate(server, photos)

        return measure

    found = in_turns(
        {
            "int8": of(lambda: ours(made.int8)),
            "float32": of(lambda: ours(made.float32)),
            "fastapi": of(lambda: rival("fastapi", made.run)),
            "litserve": of(lambda: rival("litserve", made.float32)),
            "bare int8": lambda: bare(made.int8, photos, SECONDS)[0],
            "bare float32": lambda: bare(made.float32, photos, SECONDS)[0],
        }
    )

    def row(what: str, mine: str, other: str, limit: float | None = None) -> Row:
        mine_s, other_s = found[mine], found[other]
        return Row(
            what=what, ours=f"{mine_s:.1f}/s", alternative=f"{other_s:.1f}/s", ratio=mine_s / other_s, limit=limit
        )

    return [
        row("int8 : FastAPI + torch eager float32", "int8", "fastapi", 5),
        row("int8 : LitServe + ONNX Runtime float32", "int8", "litserve", 2),
        row("int8 : the runtime on decoded photos", "int8", "bare int8", 0.8),
        row("float32 : FastAPI + torch eager float32", "float32", "fastapi"),
        row("float32 : LitServe + ONNX Runtime float32", "float32", "litserve"),
        row("float32 : the runtime on decoded photos", "float32", "bare float32"),
    ], found["int8"]


def latency(made: Models, photos: Sequence[Path], capacity: float) -> list[Row]:
    """Half load; one client against the model's own time; how soon it is ready."""
    with ours(made.int8) as server:
        load(server.port, photos, clients=1, seconds=2)
        alone = load(server.port, photos, clients=1, seconds=SECONDS)
        half = load(server.port, photos, rate=capacity / 2, seconds=SECONDS)
        start_s = server.start_s
    own_ms = bare(made.int8, photos, 1)[1]
    p50, p99 = quantile(half, 0.5), quantile(half, 0.99)
    one = quantile(alone, 0.5)
    return [
        Row(
            what="one client p50 : the model's own time",
            ours=f"{one:.1f} ms",
            alternative=f"{own_ms:.1f} ms",
            ratio=one / own_ms,
            limit=2,
            at_most=True,
        ),
        Row(what="half load: p99 : p50", ours=f"{p99:.1f} ms", alternative=f"{p50:.1f} ms", ratio=p99 / p50),
        Row(
            what="start to ready : 3 s",
            ours=f"{start_s:.2f} s",
            alternative="3 s",
            ratio=start_s / 3,
            limit=1,
            at_most=True,
        ),
    ]


def overload(made: Models, photos: Sequence[Path], capacity: float) -> list[Row]:
    """Ten times the capacity, come what may."""
    with ours(made.int8) as server:
        load(server.port, photos, clients=CLIENTS, seconds=2)
        shots = load(server.port, photos, rate=10 * capacity, seconds=OVERLOAD, most=2000)
        time.sleep(2)
        healthy = server.answers() and {s.status for s in load(server.port, photos, clients=1, number=5)} == {200}
    odd = [shot for shot in shots if shot.status not in {200, 503}]
    good = [shot for shot in shots if shot.status == 200]
    refused = [shot for shot in shots if shot.status == 503]
    answered = len(good) / OVERLOAD
    slow = quantile(refused, 0.99)
    kinds = sorted({shot.status for shot in odd})  # -1: the generator ran out of connections
    worst = max((shot.seconds for shot in good), default=0.0)
    return [
        Row(
            what=f"overload, {len(shots):,} requests: 200s : capacity",
            ours=f"{answered:.1f}/s",
            alternative=f"{capacity:.1f}/s",
            ratio=answered / capacity,
            limit=0.7,
        ),
        Row(
            what=f"overload: p99 of {len(refused):,} 503s (p50 {quantile(refused, 0.5):.1f} ms) : 50 ms",
            ours=f"{slow:.1f} ms",
            alternative="50 ms",
            ratio=slow / 50,
            limit=1,
            at_most=True,
        ),
        Row(
            what="overload: slowest 200 : time limit",
            ours=f"{worst:.2f} s",
            alternative="30 s",
            ratio=worst / 30,
            limit=1,
            at_most=True,
        ),
        Row(
            what=f"overload: other answers {kinds}; healthy after: {healthy}",
            ours=str(len(odd)),
            alternative="0",
            ratio=float(len(odd) + (not healthy)),
            limit=0,
            at_most=True,
        ),
    ]


def memory(photos: Sequence[Path]) -> list[Row]:
    """Many requests to a tiny model: what the server itself keeps."""
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model")
        with ours(Path(folder) / "model") as server:
            load(server.port, photos, clients=CLIENTS, number=REQUESTS // 5)
            before = server.resident_mb
            load(server.port, photos, clients=CLIENTS, number=REQUESTS - REQUESTS // 5)
            after = server.resident_mb
    return [
        Row(
            what=f"memory after {REQUESTS:,} requests : after a fifth of them",
            ours=f"{after:.0f} MB",
            alternative=f"{before:.0f} MB",
            ratio=after / before,
            limit=1.05,
            at_most=True,
        )
    ]


def main() -> Table:
    """Everything, in one run."""
    photos = photo_files()
    made = models()
    rows, capacity = throughput(made, photos)
    rows += latency(made, photos, capacity) + overload(made, photos, capacity) + memory(photos)
    cores = len(os.sched_getaffinity(0))
    return Table(title=f"HTTP, ResNet50, {len(photos)} JPEGs as taken, {CLIENTS} clients, {cores} cores", rows=rows)
