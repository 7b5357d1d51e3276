"""A lean load generator: raw HTTP/1.1 over uvloop, requests prepared beforehand, answers hardly looked at.

It shares the cores with the server it measures, so it must cost little: about 0.1 ms of a core a request. As a program
(`python -m benchmarks._load`) it runs in a process of its own, so that its interpreter is not the server's.
"""

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop

PATIENCE_S = 60.0
"""How long answers are waited for after the last request that came at its time; later ones are none."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: when it was due (seconds since the start), its status (0: none came), its time in seconds.

    The time runs from sending it, or from connecting where no open connection was free.
    """

    due: float
    status: int
    seconds: float


class _Connection(asyncio.Protocol):
    def __init__(self, lane: "_Lane") -> None:
        self.lane = lane
        self.transport: asyncio.Transport | None = None
        self.began, self.due = 0.0, -1.0
        self.status, self.left, self.head = 0, -1, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due: float, began: float) -> None:
        self.due, self.began = due, began
        self.status, self.left, self.head = 0, -1, b""
        if self.transport is None:  # lost between connecting and sending
            self.done()
            return
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self.left < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            self.status = int(self.head[9:12])
            lower = self.head[:end].lower()
            at = lower.index(b"content-length:") + 15
            stop = lower.find(b"\r", at)
            length = int(lower[at:] if stop < 0 else lower[at:stop])
            self.left = length - (len(self.head) - end - 4)
        else:
            self.left -= len(data)
        if self.left <= 0:
            self.done()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.due >= 0:
            self.status = 0
            self.done()
        self.lane.lost(self)

    def done(self) -> None:
        shot = Shot(self.due, self.status, time.perf_counter() - self.began)
        self.due = -1.0
        self.lane.finished(self, shot)


class _Lane:
    """The connections to one server."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes]) -> None:
        self.host, self.port = host, port
        self.requests = itertools.cycle(requests)
        self.shots: list[Shot] = []
        self.idle: list[_Connection] = []
        self.all: set[_Connection] = set()
        self.opened = self.busy = 0
        self.again = False
        self.until = float("inf")
        self.left = sys.maxsize
        self.start = time.perf_counter()

    async def connect(self) -> _Connection:
        self.opened += 1
        _, made = await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self.host, self.port)
        if made.transport is not None:  # else it was lost at once, and `lost` has been here
            self.all.add(made)
        return made

    async def close(self) -> None:
        for connection in list(self.all):
            if connection.transport is not None:
                connection.transport.close()
        while self.all:
            await asyncio.sleep(0.005)

    def fire(self, connection: _Connection, due: float, began: float | None = None) -> None:
        self.busy += 1
        self.left -= 1
        connection.send(next(self.requests), due, time.perf_counter() if began is None else began)

    def finished(self, connection: _Connection, shot: Shot) -> None:
        self.busy -= 1
        self.shots.append(shot)
        now = time.perf_counter() - self.start
        if connection.transport is None:
            return
        if self.again and now < self.until and self.left > 0:
            self.fire(connection, now)
        else:
            self.idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self.opened -= 1
        self.all.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)


async def _closed(lane: _Lane, clients: int, seconds: float, number: int) -> None:
    lane.again, lane.until, lane.left = True, seconds, number
    made = [await lane.connect() for _ in range(clients)]
    lane.start = time.perf_counter()
    for connection in made:
        lane.fire(connection, 0.0)
    while ((now := time.perf_counter() - lane.start) < seconds and lane.left > 0) or lane.busy:
        if lane.opened < clients and now < seconds and lane.left > 0:
            try:
                lane.fire(await lane.connect(), now)
            except OSError:
                lane.opened -= 1
                lane.shots.append(Shot(now, 0, 0.0))
        await asyncio.sleep(0.01)


def _arrivals(rate: float, *, at_random: bool) -> Iterator[float]:
    """Seconds since the start at which requests are due: evenly, or as independent people would come."""
    chance = random.Random(0)
    due = 0.0
    while True:
        yield due
        due += chance.expovariate(rate) if at_random else 1 / rate


async def _open(lane: _Lane, arrivals: Iterator[float], seconds: float, most: int) -> None:
    lane.idle = [await lane.connect() for _ in range(min(most, 100))]
    lane.start = time.perf_counter()
    opening: set[asyncio.Task[None]] = set()
    coming = next(arrivals)

    async def late(due: float) -> None:
        began = time.perf_counter()
        try:
            lane.fire(await lane.connect(), due, began)
        except (OSError, asyncio.CancelledError):
            lane.opened -= 1
            lane.shots.append(Shot(due, 0, time.perf_counter() - began))

    while (now := time.perf_counter() - lane.start) < seconds:
        while coming <= now:
            due, coming = coming, next(arrivals)
            if lane.idle:
                lane.fire(lane.idle.pop(), due)
            elif lane.opened < most:
                task = asyncio.create_task(late(due))
                opening.add(task)
                task.add_done_callback(opening.discard)
            else:
                lane.shots.append(Shot(due, -1, 0.0))  # the generator's own limit: told apart from the server's
        await asyncio.sleep(0.002)
    latest = time.perf_counter() + PATIENCE_S
    while (lane.busy or opening) and time.perf_counter() < latest:
        await asyncio.sleep(0.01)
    for task in opening:
        task.cancel()  # no answer either
    await asyncio.gather(*opening)


def request_of(body: bytes, path: str = "/invocations", content_type: str = "image/jpeg") -> bytes:
    """The bytes of one POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def shoot(port: int, requests: Sequence[bytes], **how: float) -> list[Shot]:
    """Sends requests in this process.

    `clients=8` keeps so many in flight; `rate=100` sends so many a second, come what may, evenly or (`at_random=1`) as
    a Poisson process; `seconds` and `number` say for how long. A client whose connection breaks opens another.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lane = _Lane("127.0.0.1", port, requests)
        if "rate" in how:
            arrivals = _arrivals(how["rate"], at_random=bool(how.get("at_random")))
            runner.run(_open(lane, arrivals, how["seconds"], int(how.get("most", 1000))))
        else:
            number = int(how.get("number", sys.maxsize))
            runner.run(_closed(lane, int(how["clients"]), how.get("seconds", float("inf")), number))
        runner.run(lane.close())
    return lane.shots


def load(port: int, photos: Sequence[Path], *, path: str = "/invocations", **how: float) -> list[Shot]:
    """The same in a process of its own, with photos from files."""
    orders = json.dumps({"port": port, "photos": [str(one) for one in photos], "path": path, "how": how})
    done = subprocess.run([sys.executable, "-m", "benchmarks._load"], input=orders, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [Shot(**one) for one in json.loads(done.stdout)]


def main() -> None:
    """Reads orders from standard input, writes the shots to standard output."""
    orders = json.loads(sys.stdin.read())
    requests = [request_of(Path(one).read_bytes(), orders["path"]) for one in orders["photos"]]
    shots = shoot(orders["port"], requests, **orders["how"])
    sys.stdout.write(json.dumps([asdict(one) for one in shots]))


if __name__ == "__main__":
    main()
