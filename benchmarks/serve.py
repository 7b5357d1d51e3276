"""Serving over HTTP: photos a second against other servers and the bare runtime, latency, start.

JPEGs as taken, from the folder that BINTALLY_ORIGINALS names. The load generator (`_load.py`, a process of its own)
shares the cores with the server; every server bears that alike. BINTALLY_BENCH_SECONDS (10) is how long each rate is
measured, twice, taking turns. `_models.py` says which model; `serve_float32`, `overload`, `memory` and `workers` go on
from here.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import Row, Table
from benchmarks._bare import Bare, bare
from benchmarks._load import load
from benchmarks._models import Models, models
from benchmarks._servers import CLIENTS, Running, ours, photo_files, quantile, rate, rival, tell

SECONDS = float(os.environ.get("BINTALLY_BENCH_SECONDS", "10"))


def throughput(
    folder: Path, precision: str, made: Models, photos: Sequence[Path], limits: Sequence[float | None]
) -> tuple[list[Row], float, Bare]:
    """One of our models against the others; gives its photos a second and the bare runtime's figures too.

    The better of two rounds each, taking turns, so that a slow spell of the machine meets all.
    """
    servers: dict[str, Callable[[], contextlib.AbstractContextManager[Running]]] = {
        "ours": lambda: ours(folder),
        "fastapi": lambda: rival("fastapi", made.run),
        "litserve": lambda: rival("litserve", made.float32),
    }
    found: dict[str, float] = {}
    alone: list[Bare] = []
    for number in (1, 2):
        for name, server_of in servers.items():
            with server_of() as server:
                value = rate(server, photos, SECONDS)
            tell(f"round {number}: {name} {value:.1f}/s, ready after {server.start_s:.2f} s")
            found[name] = max(found.get(name, 0.0), value)
        alone.append(bare(folder, photos, SECONDS))
        tell(f"round {number}: the runtime: {alone[-1]}")
    best = max(alone, key=lambda it: it.best)
    mine = found["ours"]
    others = {
        "FastAPI + torch eager float32": found["fastapi"],
        "LitServe + ONNX Runtime float32": found["litserve"],
        "the runtime on decoded photos": best.best,
    }
    rows = [
        Row(
            what=f"{precision} : {name}",
            ours=f"{mine:.1f}/s",
            alternative=f"{other:.1f}/s",
            ratio=mine / other,
            limit=limit,
        )
        for (name, other), limit in zip(others.items(), limits, strict=True)
    ]
    return rows, mine, best


def latency(made: Models, photos: Sequence[Path], capacity: float, own_ms: float) -> list[Row]:
    """Half load, arriving at random; one client against the model's own time; how soon it is ready."""
    with ours(made.int8) as server:
        load(server.port, photos, clients=1, seconds=2)
        alone = load(server.port, photos, clients=1, seconds=SECONDS)
        half = load(server.port, photos, rate=capacity / 2, seconds=2 * SECONDS, at_random=1)
        start_s = server.start_s
    if {shot.status for shot in [*alone, *half]} != {200}:
        raise RuntimeError("not all were answered")
    p50, p99, one = quantile(half, 0.5), quantile(half, 0.99), quantile(alone, 0.5)
    return [
        Row(
            what=f"one client, p50 (p99 {quantile(alone, 0.99):.1f} ms) : the model's own time",
            ours=f"{one:.1f} ms",
            alternative=f"{own_ms:.1f} ms",
            ratio=one / own_ms,
            limit=2,
            at_most=True,
        ),
        Row(
            what=f"half load ({capacity / 2:.0f}/s, at random): p99 : p50",
            ours=f"{p99:.1f} ms",
            alternative=f"{p50:.1f} ms",
            ratio=p99 / p50,
        ),
        Row(
            what="int8, start to ready : 3 s",
            ours=f"{start_s:.2f} s",
            alternative="3 s",
            ratio=start_s / 3,
            limit=1,
            at_most=True,
        ),
    ]


def title(photos: Sequence[Path]) -> str:
    """What was measured on what."""
    cores = len(os.sched_getaffinity(0))
    return f"HTTP, ResNet50, {len(photos)} JPEGs as taken, {CLIENTS} clients, {cores} cores"


def main() -> Table:
    """int8, as it would be served."""
    photos = photo_files()
    made = models()
    rows, capacity, alone = throughput(made.int8, "int8", made, photos, (5, 2, 0.8))
    rows += latency(made, photos, capacity, alone.alone_ms)
    return Table(title=title(photos), rows=rows)
