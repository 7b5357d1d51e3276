"""A stand-in for the engine, and a real server process around it: quick to start, as slow as a test wants.

The model folder holds one file, `model.txt`: "<id> <milliseconds a photo>". The count is the photo's mean grey.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bintally import pixels
from bintally.counts import CountDistribution, Unreadable
from bintally.errors import ModelError, UnreadablePhotoError

ROOT = Path(__file__).parents[2]


class StandIn:
    concurrency = 2

    def __init__(self, model_id: str, ms: float) -> None:
        self.model_id, self._seconds = model_id, ms / 1e3

    def read(self, photo: bytes) -> NDArray[np.uint8] | Unreadable:
        try:
            return pixels.read_square(photo, 8)
        except UnreadablePhotoError as error:
            return Unreadable(reason=str(error))

    def logits(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self._seconds * len(squares))
        wanted = squares.mean(axis=(1, 2, 3)) / 256 * 6
        return np.stack([-np.abs(np.arange(6) - int(one)) for one in wanted]).astype(np.float32)

    def answer(self, logits: NDArray[np.float32]) -> CountDistribution:
        powers = np.exp(logits.astype(np.float64))
        return CountDistribution(probabilities=tuple((powers / powers.sum()).tolist()))

    def explain(self, photo: bytes) -> tuple[CountDistribution, NDArray[np.float32]]:
        square = self.read(photo)
        if isinstance(square, Unreadable):
            raise UnreadablePhotoError(square.reason)
        return self.answer(self.logits(square[None])[0]), np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)


def loader(model: Path, engine: dict[str, Any]) -> Callable[[], StandIn]:
    def load() -> StandIn:
        try:
            model_id, ms = (model / "model.txt").read_text().split()
        except (OSError, ValueError) as error:
            raise ModelError(f"{model} is no model folder: {error}") from error
        return StandIn(model_id, float(ms))

    return load


def photo(grey: int = 128, side: int = 64, format_: str = "JPEG") -> bytes:
    out = BytesIO()
    Image.new("RGB", (side, side), (grey, grey, grey)).save(out, format_)
    return out.getvalue()


def count_of(grey: int) -> int:
    return int(grey / 256 * 6)


class Server:
    """A running server process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log
        self.url = f"http://127.0.0.1:{port}"

    def lines(self) -> list[dict[str, Any]]:
        found = self.log.read_text().splitlines()
        return [json.loads(line) for line in found if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == name]

    def wait_for(self, event: str, number: int = 1, seconds: float = 30.0) -> None:
        latest = time.monotonic() + seconds
        while len(self.events(event)) < number:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < latest, f"no {event!r} within {seconds} s:\n{self.log.read_text()}"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def serving(
    folder: Path, *, ms: float = 1.0, program: Sequence[str] = (sys.executable, __file__), **settings: Any
) -> Iterator[Server]:
    """A server of the stand-in; its model folder is `folder / "model"`."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    if not (model / "model.txt").exists():
        (model / "model.txt").write_text(f"first {ms}")
    port = free_port()
    orders = {"settings": {"port": port, **settings}, "model": str(model)}
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*program, "serve", json.dumps(orders)],
            stderr=out,
            cwd=ROOT,
            env={**os.environ, **QUIET, "TMPDIR": str(folder)},
        )
    server = Server(process, port, log)
    try:
        server.wait_for("ready", settings.get("workers", 1))
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


QUIET = {"OMP_NUM_THREADS": "1"}


def main() -> None:
    from bintally.serve import supervisor, worker
    from bintally.serve.options import ServeSettings

    if sys.argv[1] == "child":
        worker.child(loader)
        return
    orders = json.loads(sys.argv[2])
    settings, model = ServeSettings(**orders["settings"]), Path(orders["model"])
    try:
        if settings.workers == 1:
            worker.serve_one(settings, loader(model, {}))
        else:
            supervisor.supervise(settings, model, {}, command=(sys.executable, __file__, "child"))
    except ModelError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
