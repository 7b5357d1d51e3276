"""Accepting connections beside other workers on one socket: one at a time, and behind those who have fewer.

Left to itself the event loop of whichever worker wakes first accepts all that wait, and clients that keep their
connections stay with it: eight clients who came at once were all served by one worker of two.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from bintally.serve.slots import Slots

_COURTESY_S = 0.002
"""How long a worker that has more connections than another leaves a new one to it."""
_BREATH_S = 0.5
"""How long nothing is accepted when no more files may be opened."""


class Connection(asyncio.Protocol):
    """One client's, as uvicorn has them."""

    def shutdown(self) -> None:
        """Ends it once what has been asked is answered."""
        raise NotImplementedError


class FairListener:
    """Listens on a bound socket that several processes share. What a server is to uvicorn: it is closed and waited for.

    Args:
        sock: bound; not closed here.
        protocol: makes the protocol of one connection. Its `shutdown` is called if the listener closes meanwhile.
        slots: where the workers tell each other how many connections they have.
        backlog: how many may wait.
    """

    def __init__(self, sock: socket.socket, protocol: Callable[[], Connection], slots: Slots, backlog: int) -> None:
        self._sock, self._protocol, self._slots = sock, protocol, slots
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        sock.setblocking(False)
        sock.listen(backlog)
        self._loop.add_reader(sock.fileno(), self._ready)

    def close(self) -> None:
        """Accepts no more, and opens none that was accepted and not yet opened: nobody would wait for its answers."""
        self._closed.set()
        self._loop.remove_reader(self._sock.fileno())
        if self._timer is not None:
            self._timer.cancel()

    async def wait_closed(self) -> None:
        """Returns when no connection is on its way to being opened any more."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _ready(self) -> None:
        if self._slots.connections > self._slots.fewest_connections:
            self._wait(_COURTESY_S, self._accept)
        else:
            self._accept()

    def _wait(self, seconds: float, then: Callable[[], None] | None = None) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._timer = self._loop.call_later(seconds, self._go_on, then)

    def _go_on(self, then: Callable[[], None] | None) -> None:
        self._loop.add_reader(self._sock.fileno(), self._ready)
        if then is not None:
            then()

    def _accept(self) -> None:
        try:
            made, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker has it, or the client is gone
        except OSError:
            self._wait(_BREATH_S)
            return
        made.setblocking(False)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._slots.connections += 1  # the protocol tells the exact number a moment later
        task: asyncio.Task[object] = self._loop.create_task(self._open(made))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, made: socket.socket) -> None:
        if self._closed.is_set():
            made.close()
            return
        try:
            _, protocol = await self._loop.connect_accepted_socket(self._protocol, made)
        except OSError:  # the client went away meanwhile
            made.close()
            return
        if self._closed.is_set():
            # Closed in between: uvicorn has told the connections that it knew of, and this was none.
            protocol.shutdown()
