"""The service's HTTP server: one loopback port for all its protocols."""

import contextlib
import ipaddress
import socket
from collections.abc import Callable

from bintally.cloud.local.service import Service
from bintally.errors import MissingExtraError, UsageError

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ModuleNotFoundError as missing:
    raise MissingExtraError(missing.name or "starlette", "cloud") from missing

_MOST = 16 * 1024 * 1024
"""Bytes of a request that are read at all."""


def application(service: Service) -> Starlette:
    """The ASGI application around a service that has been started."""

    async def health(request: Request) -> Response:
        return JSONResponse({"service": "bintally cloud local", "status": "ready"})

    async def answer(request: Request) -> Response:
        if not _is_local(request.headers.get("host", "")):
            # A page in the user's browser could otherwise send requests here under a name of its own.
            return Response(status_code=403)
        body = bytearray()
        try:
            async for piece in request.stream():
                body += piece
                if len(body) > _MOST:
                    return JSONResponse({"Message": f"more than {_MOST} bytes"}, status_code=413)
        except ClientDisconnect:
            return Response(status_code=400)
        headers = {name.lower(): value for name, value in request.headers.items()}
        found = await run_in_threadpool(service.answer, request.method, request.url.path, headers, bytes(body))
        return Response(
            found.body, status_code=found.status, media_type=found.content_type, headers=dict(found.headers)
        )

    return Starlette(
        routes=[
            Route("/", health, methods=["GET"]),
            Route("/{path:path}", answer, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
    )


class Quiet(uvicorn.Server):
    """uvicorn's server, which tells when it listens, and leaves signals to whoever runs it in a thread."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and tells."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self._on_ready()


def bind(port: int) -> socket.socket:
    """A socket on a loopback port; 0 takes a free one.

    Raises:
        UsageError: the port is taken.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        sock.close()
        raise UsageError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}; choose another by --port") from error
    return sock


def server_of(service: Service, on_ready: Callable[[], None]) -> uvicorn.Server:
    """A server around a service that has been started; `run(sockets=[…])` serves until SIGTERM or SIGINT.

    Args:
        service: what answers.
        on_ready: called once it listens.
    """
    config = uvicorn.Config(
        application(service), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5
    )
    return Quiet(config, on_ready)


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    return False
