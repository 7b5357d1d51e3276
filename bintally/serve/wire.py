"""The HTTP protocol with time limits on whoever sends slowly, and the server that ends as a container should."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bintally.serve.listener import Connection, FairListener
from bintally.serve.slots import Slots

_HEADERS_SIZE = 65_536  # bytes of a request's line and headers
_DRAIN_SIZE = 64_000_000  # bytes of a refused body that are read and thrown away, so that the client sees the answer
_DRAIN_S = 10.0


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with patience that ends.

    uvicorn itself waits for ever for a request's headers, and for ever for the rest of a body after an early answer.
    """

    header_timeout_s = 10.0
    slots: Slots | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._in_headers = True
        self._message_open = False
        self._messages = 0
        self._size = 0

    def connection_made(self, transport: Any) -> None:
        """A client is there: from now on it has its time to send headers."""
        super().connection_made(transport)
        self._tell()
        self._arm(self.header_timeout_s, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._disarm()
        super().connection_lost(exc)
        self._tell()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        before = max(self._messages, 1) if self._in_headers else -1
        super().data_received(data)
        if self._in_headers and before == self._messages:  # nothing but headers in it
            self._size += len(data)
            if self._size > _HEADERS_SIZE:
                self._refuse(b"431 Request Header Fields Too Large", b"the headers are too large")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {"bintally.gone": self.transport.is_closing}  # type: ignore[dict-item]
        self._message_open = True
        self._messages += 1
        if not self._in_headers:  # a later one on this connection; the first has had its timer from the start
            self._in_headers, self._size = True, 0
            self._arm(self.header_timeout_s, self._headers_late)

    def on_headers_complete(self) -> None:
        """Its headers are whole."""
        self._in_headers, self._size = False, 0
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        if self.cycle.response_complete:
            self._size += len(body)
            if self._size > _DRAIN_SIZE:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Its body is whole."""
        self._message_open = False
        if self.cycle is not None and self.cycle.response_complete:  # was answered before: idle from now on
            self._disarm()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Its answer has been sent, perhaps before its body was whole."""
        super().on_response_complete()
        if self._message_open and not self.transport.is_closing():
            self._arm(_DRAIN_S, self.transport.close)

    def _tell(self) -> None:
        if self.slots is not None:
            self.slots.connections = len(self.connections)

    def _arm(self, seconds: float, then: Any) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _headers_late(self) -> None:
        if self._size or self._message_open:
            self._refuse(b"408 Request Timeout", b"the headers came too slowly")
        else:
            self.transport.close()  # connected and never said a word

    def _refuse(self, status: bytes, reason: bytes) -> None:
        if self.transport.is_closing():
            return
        body = b'{"error": "' + reason + b'"}'
        self.transport.write(
            b"HTTP/1.1 " + status + b"\r\ncontent-type: application/json\r\ncontent-length: "
            + str(len(body)).encode() + b"\r\nconnection: close\r\n\r\n" + body
        )  # fmt: skip
        self.transport.close()


class QuietServer(Server):
    """uvicorn's server, without its own handling of signals: it would end by SIGTERM where a container ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process."""
        yield


class FairServer(QuietServer):
    """One of several workers that accept from the same socket."""

    def __init__(self, config: Config, slots: Slots) -> None:
        super().__init__(config)
        self._slots = slots

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's for sockets that are given, but for who accepts."""

        def protocol() -> Connection:
            kind: Any = self.config.http_protocol_class
            made: Connection = kind(config=self.config, server_state=self.server_state, app_state={})
            return made

        listeners: list[Any] = [
            FairListener(one, protocol, self._slots, self.config.backlog) for one in sockets or []
        ]
        self.servers = listeners
        self.started = True


def server_of(app: Any, *, header_timeout_s: float, stop_timeout_s: float, slots: Slots | None = None) -> QuietServer:
    """A server for an ASGI application; give its `serve` a bound socket.

    Args:
        app: the application.
        header_timeout_s: see `ServeSettings`.
        stop_timeout_s: see `ServeSettings`.
        slots: what the workers know of each other, where several accept from that socket.
    """

    class Protocol(PatientProtocol):
        pass

    Protocol.header_timeout_s, Protocol.slots = header_timeout_s, slots
    config = Config(
        app,
        http=Protocol,
        ws="none",
        loop="uvloop",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=max(1, int(stop_timeout_s)),
        backlog=2048,
    )
    return QuietServer(config) if slots is None else FairServer(config, slots)
