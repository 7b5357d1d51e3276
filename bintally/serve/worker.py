"""One serving process: loads the model, listens only when it has answered once, ends on SIGTERM, reloads on SIGHUP."""

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from pydantic import TypeAdapter

from bintally.errors import BintallyError, UsageError
from bintally.serve import logs
from bintally.serve.app import App
from bintally.serve.crew import CountingEngine, Crew
from bintally.serve.logs import tell
from bintally.serve.metrics import Metrics
from bintally.serve.options import ServeSettings
from bintally.serve.slots import Slots
from bintally.serve.wire import QuietServer, server_of

Load = Callable[[], CountingEngine]
"""Loads the model and lets it answer once. Raises BintallyError when it is not fit to be served."""


def bind(settings: ServeSettings) -> socket.socket:
    """A socket on the address of the settings, not listening yet.

    Raises:
        UsageError: the address is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        where = f"{settings.host}:{settings.port}"
        raise UsageError(f"cannot listen on {where}: {error.strerror or error}; choose another by --port") from error
    return sock


def serve_one(settings: ServeSettings, load: Load) -> None:
    """Serves in this very process until SIGTERM or SIGINT.

    Raises:
        BintallyError: the address or the model is not fit.
    """
    logs.start()
    run(settings, load, bind(settings), Slots(settings.queue))


def run(
    settings: ServeSettings, load: Load, sock: socket.socket, slots: Slots, on_ready: Callable[[], None] | None = None
) -> None:
    """Serves on a bound socket until SIGTERM or SIGINT. Raises BintallyError when the model is not fit."""
    _allow_connections()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the model is being loaded anyway
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # nothing to finish yet
    engine = load()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, load, engine, sock, slots, on_ready))


def _allow_connections() -> None:
    """As many open files as this process may have: many systems begin at 1,024, which as many slow clients would hold."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(
    settings: ServeSettings,
    load: Load,
    engine: CountingEngine,
    sock: socket.socket,
    slots: Slots,
    on_ready: Callable[[], None] | None,
) -> None:
    crew = Crew(engine, threads=settings.threads, batch=settings.batch, on_done=slots.give)

    def gauges() -> dict[str, tuple[str, float]]:
        return {
            "queue": ("Photos waiting or being counted, over all workers.", slots.in_use),
            "queue_limit": ("Photos that may wait or be counted.", slots.capacity),
            "workers": ("Worker processes.", settings.workers),
        }

    metrics = Metrics(gauges)
    server = server_of(
        App(settings, crew, slots, metrics),
        header_timeout_s=settings.header_timeout_s,
        stop_timeout_s=settings.stop_timeout_s,
        slots=slots if settings.workers > 1 else None,
    )
    reloader = _Reloader(load, crew, metrics)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, server, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)
    watch = asyncio.create_task(_tell_ready(server, sock, crew, on_ready))
    await server.serve(sockets=[sock])
    watch.cancel()
    if crew.busy_for() > settings.stop_timeout_s:
        tell("stopped with a photo that would not end", level=logging.ERROR)
        os._exit(0)  # waiting for a hanging runtime would end in SIGKILL
    crew.stop()
    tell("stopped")


async def _tell_ready(
    server: QuietServer, sock: socket.socket, crew: Crew, on_ready: Callable[[], None] | None
) -> None:
    while not server.started:
        await asyncio.sleep(0.005)
    host, port = sock.getsockname()[:2]
    tell("ready", host=host, port=port, model_id=crew.engine.model_id)
    if on_ready is not None:
        on_ready()


def _stop(server: QuietServer, name: str) -> None:
    if not server.should_exit:
        tell("stopping", signal=name)
    server.should_exit = True


class _Reloader:
    """Loads the model again in the background, and swaps it in only when it answers."""

    def __init__(self, load: Load, crew: Crew, metrics: Metrics) -> None:
        self._load, self._crew, self._metrics = load, crew, metrics
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> None:
        if self._task is not None and not self._task.done():
            self._again = True  # what is being loaded may be older than what was meant
            return
        self._task = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            before = self._crew.engine.model_id
            try:
                engine = await asyncio.to_thread(self._load)
            except BintallyError as error:
                self._metrics.reload("failed")
                tell(
                    "the new model is not fit: the old one stays", level=logging.ERROR, reason=str(error), kept=before
                )
            except Exception as error:  # noqa: BLE001 - whatever a new model does, the old one goes on answering
                self._metrics.reload("failed")
                tell("the new model failed: the old one stays", level=logging.ERROR, error=error, kept=before)
            else:
                self._crew.swap(engine)
                self._metrics.reload("done")
                tell("took up a new model", model_id=engine.model_id, before=before)


def engine_loader(model: Path, engine: dict[str, Any]) -> Load:
    """Loads `bintally.serve.engine.Engine` from a folder, which may be a link to another one by the next time."""

    def load() -> CountingEngine:
        from bintally.serve.engine import Engine, EngineSettings

        return Engine.load(model, settings=EngineSettings(**engine))

    return load


def child(loader: Callable[[Path, dict[str, Any]], Load] = engine_loader) -> None:
    """The main function of a worker that a supervisor started: its orders come on standard input.

    It answers "ready" on standard output, or "error: " and the reason; when its standard input ends, the supervisor
    is gone, and it stops.
    """
    logs.start()
    orders = json.loads(sys.stdin.readline())
    settings = TypeAdapter(ServeSettings).validate_python(orders["settings"])
    sock = socket.socket(fileno=orders["socket"])
    slots = Slots(settings.queue, workers=settings.workers, worker=orders["worker"], fd=orders["slots"])
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    try:
        run(settings, loader(Path(orders["model"]), orders["engine"]), sock, slots, lambda: _answer("ready"))
    except BintallyError as error:
        _answer(f"error: {error}")
        raise SystemExit(error.exit_code) from None


def _answer(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, (" ".join(line.split()) + "\n").encode())


def _stop_when_orphaned() -> None:
    while sys.stdin.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    child()
