"""The engine on decoded photos in memory: what a server around it could reach at best. As a program: prints JSON."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks._servers import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """Photos a second, one and eight at a time on every stream; and one photo alone, in milliseconds."""

    by_one: float
    by_eight: float
    alone_ms: float

    @property
    def best(self) -> float:
        """Photos a second at its best."""
        return max(self.by_one, self.by_eight)


def bare(folder: Path, photos: Sequence[Path], seconds: float) -> Bare:
    """Measures in a process of its own."""
    words = [sys.executable, "-m", "benchmarks._bare", str(folder), str(seconds), *map(str, photos[:64])]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Bare(**json.loads(done.stdout))


def _measure(folder: Path, photos: Sequence[Path], seconds: float) -> Bare:
    from bintally.pixels import read_square
    from bintally.serve.engine import Engine

    engine = Engine.load(folder)
    squares = np.stack([read_square(path.read_bytes(), engine.card.pixels.size) for path in photos])

    def keep(size: int) -> float:
        done, stop = [0] * engine.concurrency, time.perf_counter() + seconds / 2

        def work(number: int) -> None:
            place = number
            while time.perf_counter() < stop:
                place = (place + size) % (len(squares) - size)
                engine.logits(squares[place : place + size])
                done[number] += size

        began = time.perf_counter()
        with ThreadPoolExecutor(engine.concurrency) as pool:
            list(pool.map(work, range(engine.concurrency)))
        return sum(done) / (time.perf_counter() - began)

    keep(1)
    times = []
    for place in range(60):
        began = time.perf_counter()
        engine.logits(squares[place : place + 1])
        times.append((time.perf_counter() - began) * 1e3)
    return Bare(by_one=keep(1), by_eight=keep(8), alone_ms=statistics.median(times))


if __name__ == "__main__":
    found = _measure(Path(sys.argv[1]), [Path(one) for one in sys.argv[3:]], float(sys.argv[2]))
    print(json.dumps(asdict(found)))
