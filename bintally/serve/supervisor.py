"""Several serving processes on one socket: starts them, starts again what dies, passes signals on."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from bintally.errors import ModelError
from bintally.serve import logs
from bintally.serve.logs import tell
from bintally.serve.options import ServeSettings
from bintally.serve.slots import Slots
from bintally.serve.worker import bind
from bintally.settings import as_dict

WORKER = (sys.executable, "-m", "bintally.serve.worker")

_TICK_S = 0.05
_LONGEST_PAUSE_S = 30.0


class _Worker:
    """One process, and what is known of it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.ready = False
        self.said = b""
        self._ear = cast(BinaryIO, process.stdout)
        os.set_blocking(self._ear.fileno(), False)

    def listen(self) -> None:
        """Takes in what it has said so far."""
        while piece := self._ear.read(4096):
            self.said += piece
        self.ready = self.ready or b"ready\n" in self.said

    @property
    def complaint(self) -> str:
        """Why it would not start."""
        lines = self.said.decode(errors="replace").splitlines()
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return told[0] if told else f"a worker ended with {self.process.returncode} before it was ready"


def supervise(
    settings: ServeSettings, model: Path, engine: dict[str, Any], *, command: Sequence[str] = WORKER
) -> None:
    """Serves with `settings.workers` processes until SIGTERM or SIGINT.

    All of them accept from one listening socket, so that connections which a killed worker had not accepted yet go to
    the others. A worker that dies is started again; its places in the queue are given back.

    Raises:
        BintallyError: the address is not free, or no worker can serve the model.
    """
    logs.start()
    with contextlib.ExitStack() as stack:
        figures = tempfile.mkdtemp(prefix="bintally-metrics-")
        stack.callback(shutil.rmtree, figures, ignore_errors=True)
        sock = stack.enter_context(contextlib.closing(bind(settings)))
        orders = {"settings": as_dict(settings), "model": str(model), "engine": engine}
        pending = stack.enter_context(_signals())
        _Supervisor(settings, orders, sock, command, figures, pending).run()


class _Supervisor:
    def __init__(
        self,
        settings: ServeSettings,
        orders: dict[str, Any],
        sock: socket.socket,
        command: Sequence[str],
        figures: str,
        pending: list[int],
    ) -> None:
        self._settings, self._orders, self._sock = settings, orders, sock
        self._command, self._figures, self._pending = command, figures, pending
        self._slots = Slots(settings.queue, workers=settings.workers)
        self._workers: dict[int, _Worker] = {}
        self._due: dict[int, float] = {}
        self._failures = 0
        self._ever_ready = False

    def run(self) -> None:
        for number in range(self._settings.workers):
            self._start(number)
        try:
            while not self._told_to_stop():
                self._look_after()
                time.sleep(_TICK_S)
        finally:
            self._stop()

    def _start(self, number: int) -> None:
        process = subprocess.Popen(
            [*self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._sock.fileno(), self._slots.fd),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._figures},
            start_new_session=True,  # Ctrl-C on a terminal reaches the supervisor alone, which passes it on
        )
        orders = {**self._orders, "worker": number, "socket": self._sock.fileno(), "slots": self._slots.fd}
        mouth = cast(BinaryIO, process.stdin)
        with contextlib.suppress(BrokenPipeError):
            mouth.write(json.dumps(orders).encode() + b"\n")
            mouth.flush()
        self._workers[number] = _Worker(process)

    def _look_after(self) -> None:
        for number, worker in list(self._workers.items()):
            gone = worker.process.poll() is not None
            worker.listen()
            if worker.ready:
                self._ever_ready, self._failures = True, 0
            if gone:
                self._bury(number, worker)
        for number, when in list(self._due.items()):
            if time.monotonic() >= when:
                del self._due[number]
                self._start(number)

    def _bury(self, number: int, worker: _Worker) -> None:
        del self._workers[number]
        self._slots.clear(number)
        if not worker.ready and not self._ever_ready:
            raise ModelError(worker.complaint)
        if not worker.ready:
            self._failures += 1
        pause = 0.0 if worker.ready else min(_LONGEST_PAUSE_S, 0.5 * 2**self._failures)
        code = worker.process.returncode
        tell("a worker died and is started again", level=logging.ERROR, worker=worker.process.pid, code=code)
        self._due[number] = time.monotonic() + pause

    def _told_to_stop(self) -> bool:
        stop = False
        while self._pending:
            number = self._pending.pop(0)
            if number == signal.SIGHUP:
                self._pass_on(signal.SIGHUP)
            else:
                stop = True
        return stop

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            # Before it is ready a worker loads the newest model anyway.
            if worker.process.poll() is None and (worker.ready or number != signal.SIGHUP):
                worker.process.send_signal(number)

    def _stop(self) -> None:
        self._pass_on(signal.SIGTERM)
        latest = time.monotonic() + self._settings.stop_timeout_s + 2.0
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, latest - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            code = worker.process.returncode
            if code and (worker.ready or code != -signal.SIGTERM):  # before it is ready SIGTERM just ends it
                tell("a worker did not end as it should", level=logging.ERROR, worker=worker.process.pid, code=code)
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    pipe.close()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that came, for a loop to look at."""
    pending: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda came, _: pending.append(came)) for number in numbers}
    try:
        yield pending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
