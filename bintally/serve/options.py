"""What can be set about the server, and what a hosting container's surroundings say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """The server's limits. All of them hold over all workers together.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one, which the log names.
        workers: processes. One is quickest (the runtime's own threads fill the cores); more survive a crash.
        threads: photos decoded and counted side by side in one process; 0 asks the engine.
        batch: how many photos a thread takes at once when more are waiting than there are threads.
        queue: photos waiting or being counted; past it the answer is 503, at once.
        retry_after_s: what the 503 tells the client to wait.
        max_body_mb: size of a request's body in MB (10^6 bytes); past it 413, before it is read.
        max_buffered_mb: bodies held in memory while they come in, in one process; past it 503.
        max_photos: photos in one request; past it 413.
        time_limit_s: from the request's body to the answer; past it 504.
        header_timeout_s: a request's headers come within this time; past it 408.
        body_timeout_s: a body comes within this time and a second for every 32 KB; past it 408.
        stop_timeout_s: how long a stopping server finishes what it has.
        token: when given, requests need `Authorization: Bearer <token>`; `/ping` and the pages stay open.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    batch: Annotated[int, Field(ge=1, le=64)] = 8
    queue: Annotated[int, Field(ge=1)] = 64
    retry_after_s: Annotated[int, Field(ge=1)] = 1
    max_body_mb: Positive = 6.0
    max_buffered_mb: Positive = 256.0
    max_photos: Annotated[int, Field(ge=1)] = 32
    time_limit_s: Positive = 30.0
    header_timeout_s: Positive = 10.0
    body_timeout_s: Positive = 10.0
    stop_timeout_s: Positive = 25.0
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.max_photos > self.queue:
            raise ValueError(f"max_photos ({self.max_photos}) cannot exceed the queue ({self.queue})")
        if not self.token.isascii() or self.token != self.token.strip():
            raise ValueError("token: ASCII characters, without blanks at its ends")
        if self.max_body_mb > self.max_buffered_mb:
            raise ValueError(f"max_body_mb ({self.max_body_mb}) cannot exceed max_buffered_mb")

    @property
    def max_body(self) -> int:
        """The largest body in bytes."""
        return int(self.max_body_mb * 1e6)


def hosting_model(environ: Mapping[str, str]) -> Path:
    """Where the hosting service unpacks the model: `model` under /opt/ml, or under BINTALLY_OPT_ML."""
    return Path(environ.get("BINTALLY_OPT_ML") or "/opt/ml") / "model"


def hosting_flags(environ: Mapping[str, str]) -> dict[str, Any]:
    """What a container that was started as `serve` listens on: every address, the service's port (8080).

    Meant to rank below every other source of settings but the defaults.
    """
    found: dict[str, Any] = {"host": "0.0.0.0"}  # noqa: S104 - a container's port is published by its platform
    if environ.get("SAGEMAKER_BIND_TO_PORT"):
        found["port"] = environ["SAGEMAKER_BIND_TO_PORT"]
    return found
