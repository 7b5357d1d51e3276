"""One program that serves a model: started, asked for its health, started again when it dies, stopped; and asked."""

import contextlib
import http.client
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bintally.cloud.local.bucket import TransferError, split_uri
from bintally.cloud.local.children import Child, container_environ
from bintally.cloud.local.models import model_data_of
from bintally.cloud.local.objects import free_port
from bintally.cloud.local.shared import Shared

_PING_S = 2.0
_POLL_S = 0.1
_AGAIN_S = 1.0
"""A program that died is started again after this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """What the program answered."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]


class Served:
    """A model's program, watched by a thread of its own."""

    def __init__(
        self, shared: Shared, container: Mapping[str, Any], folder: Path, write: Callable[[str], None], *, what: str
    ) -> None:
        """Nothing is started yet.

        Args:
            shared: the service's.
            container: of the model.
            folder: what stands for /opt/ml; it is made, and removed at the end.
            write: takes the lines of the log.
            what: how reasons of failure call it.
        """
        self._shared, self._container, self._folder, self._write, self._what = shared, container, folder, write, what
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._done = threading.Event()
        self._last = ""
        self._child: Child | None = None
        self.port = 0
        self.reason = ""
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begins: the model is fetched, the program started."""
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has failed for good, or was stopped."""
        return self._done.is_set()

    def wait_ready(self, timeout_s: float) -> bool:
        """Waits until the program answers. False when it does not, when it has failed for good, or was stopped."""
        until = time.monotonic() + timeout_s
        while not self._done.is_set() and time.monotonic() < until:
            if self._ready.wait(min(_POLL_S, timeout_s)):
                return True
        return self._ready.is_set()

    def stop(self) -> None:
        """Ends the program: SIGTERM, SIGKILL later. Returns when it is over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._shared.settings.hosting_stop_s + 15)
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Replied:
        """Sends one request to the program.

        Raises:
            TimeoutError: no answer in time.
            OSError: no answer at all.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            content_type = found.get("content-type", "application/octet-stream")
            return Replied(status=answer.status, body=answer.read(), content_type=content_type, headers=found)
        except http.client.HTTPException as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    # ------------------------------------------------------------------ its life

    def _work(self) -> None:
        try:
            self._fetch()
            self._live()
        except TransferError as error:
            self.reason = str(error)
        except Exception as error:  # noqa: BLE001 - the last resort of one program: it has failed and says why
            self.reason = f"InternalServerError: {type(error).__name__}: {error}"
        finally:
            self._ready.clear()
            if self._child is not None:
                self._child.finish(self._shared.settings.hosting_stop_s)
            self._done.set()

    def _fetch(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        model = self._folder / "model"
        uri = model_data_of(dict(self._container))
        if uri.endswith("/"):
            found = self._shared.bucket.list(uri)
            if not found:
                raise TransferError(f"Could not find model data at {uri}")
            self._shared.bucket.download(
                split_uri(uri)[0], [(one.key, one.name) for one in found], model, self._stopping.is_set
            )
        else:
            self._shared.bucket.download_archive(uri, model)

    def _live(self) -> None:
        was_healthy = False
        while not self._stopping.is_set():
            self._child = self._begin()
            healthy = self._until_healthy()
            if self._stopping.is_set():
                return
            if not healthy and not was_healthy:
                code = self._child.poll()
                ended = "" if code is None else f" Its program ended with exit code {code}: {self._last[:500]}"
                self.reason = (
                    f"The primary container for {self._what} did not pass the ping health check. Please check CloudWatch "
                    f"logs for this endpoint.{ended}"
                )
                return
            if healthy:
                was_healthy = True
                self._ready.set()
                while self._child.poll() is None and not self._stopping.wait(_POLL_S):
                    pass
                if self._stopping.is_set():
                    return
                self._ready.clear()
            code = self._child.finish(self._shared.settings.hosting_stop_s)
            self._write(f"the program ended with exit code {code} and is started again")
            self._stopping.wait(_AGAIN_S)

    def _begin(self) -> Child:
        self.port = free_port()
        environ = {
            **self._shared.cloud_environ(),
            "BINTALLY_OPT_ML": str(self._folder),
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "SAGEMAKER_REGION": self._shared.place.region,
            # In a container it listens on every address; here nobody else should reach it.
            "BINTALLY_SERVE_HOST": "127.0.0.1",
            **self._container.get("Environment", {}),
        }
        return self._shared.children.start(
            self._shared.programs.serve,
            environ=container_environ(environ),
            folder=self._folder,
            on_line=self._note,
        )

    def _note(self, line: str) -> None:
        self._last = line
        self._write(line)

    def _until_healthy(self) -> bool:
        until = time.monotonic() + self._shared.settings.healthy_s
        while time.monotonic() < until and not self._stopping.wait(_POLL_S):
            if self._child is None or self._child.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                if self.ask("GET", "/ping", b"", {}, _PING_S).status == 200:
                    return True
        return False
