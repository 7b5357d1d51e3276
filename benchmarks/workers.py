"""Two workers on the cores of one: what that costs, and what is lost when one of them is killed in full work.

As `serve` (which see for the photos and the model), int8, 8 clients.
"""

import collections
import os
import signal
import threading
import time
import urllib.request

from benchmarks import Row, Table
from benchmarks._load import Shot, load
from benchmarks._models import models
from benchmarks._servers import CLIENTS, Running, ours, photo_files, processor_s, quantile, rate, tell

SECONDS = 15.0


def main() -> Table:
    """One worker, two workers, and two of which one is killed by SIGKILL."""
    photos = photo_files()
    made = models()
    with ours(made.int8) as server:
        single = rate(server, photos, SECONDS)
    with ours(made.int8, "serve.workers=2") as server:
        _wait_for_both(server)
        double = rate(server, photos, SECONDS)
        before, first = _counted(server), server.children[0]
        timer = threading.Timer(SECONDS / 3, os.kill, (first, signal.SIGKILL))
        timer.start()
        shots = load(server.port, photos, clients=CLIENTS, seconds=SECONDS)
        _wait_for_both(server, but=first)
        added, queue = _counted(server) - before, _figure(server, "bintally_queue ")
        tell(f"one worker {single:.1f}/s, two {double:.1f}/s; {_told(shots)}; counted {added:.0f}, queue {queue:.0f}")
    lost = sum(shot.status == 0 for shot in shots)
    others = sum(shot.status not in {0, 200} for shot in shots)
    answered = sum(shot.status == 200 for shot in shots)
    return Table(
        title=f"Two workers, {CLIENTS} clients, one worker killed after {SECONDS / 3:g} s of {SECONDS:g}: "
        f"{answered:,} answered, slowest {quantile([s for s in shots if s.status], 1):.0f} ms",
        rows=[
            Row(
                what="two workers : one",
                ours=f"{double:.1f}/s",
                alternative=f"{single:.1f}/s",
                ratio=double / single,
            ),
            Row(
                what="requests lost : clients (one each at most)",
                ours=str(lost),
                alternative=str(CLIENTS),
                ratio=lost / CLIENTS,
                limit=1,
                at_most=True,
            ),
            Row(
                what="other answers than 200; places in the queue not given back",
                ours=f"{others} + {queue:.0f}",
                alternative="0",
                ratio=others + queue,
                limit=0,
                at_most=True,
            ),
            # Its last ones may have been answered and not yet added.
            Row(
                what="photos in /metrics, both workers and the dead one : answered",
                ours=f"{added:.0f}",
                alternative=str(answered),
                ratio=abs(added - answered) / CLIENTS,
                limit=1,
                at_most=True,
            ),
        ],
    )


def _wait_for_both(server: Running, but: int = 0) -> None:
    latest = time.perf_counter() + 60
    while len([one for one in server.children if one != but]) < 2 or _figure(server, "bintally_workers ") != 2:
        if time.perf_counter() > latest:
            raise RuntimeError("the workers did not come up")
        time.sleep(0.1)
    while not _are_idle(server, but):  # a process is a child before it serves; loading a model takes seconds of work
        if time.perf_counter() > latest:
            raise RuntimeError("the workers do not come to rest")


def _are_idle(server: Running, but: int) -> bool:
    """Whether both have done the work of loading a model, and none for a second."""
    children = [one for one in server.children if one != but]
    before = [processor_s(one) for one in children]
    time.sleep(1)
    after = [processor_s(one) for one in children]
    return len(children) == 2 and all(b > 0.5 and b - a < 0.02 for a, b in zip(before, after, strict=True))


def _counted(server: Running) -> float:
    return _figure(server, "bintally_photos_total{")


def _figure(server: Running, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def _told(shots: list[Shot]) -> dict[int, int]:
    return dict(collections.Counter(shot.status for shot in shots))
