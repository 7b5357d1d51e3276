"""The bucket on this machine: rclone's S3 server over a folder, as a child process."""

import contextlib
import dataclasses
import os
import random
import shutil
import socket
import sys
import time
from pathlib import Path

from bintally.cloud.local.bucket import Access
from bintally.cloud.local.children import Child, Children, container_environ
from bintally.errors import BintallyError, MissingExtraError

_START_S = 60.0


class ObjectServer:
    """rclone's S3 server; folders in its folder are the buckets."""

    def __init__(self, folder: Path, children: Children, *, log: Path) -> None:
        self._folder, self._children, self._log = folder, children, log
        self._child: Child | None = None

    def start(self, port: int, access: Access) -> Access:
        """Starts the server and waits until it answers.

        Args:
            port: to listen on; 0 takes a free one.
            access: the credentials that it is to take.

        Returns:
            `access`, with the server's endpoint.

        Raises:
            MissingExtraError: there is no rclone.
            BintallyError: it does not start.
        """
        program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
        if program is None:
            raise MissingExtraError("rclone", "cloud")
        self._folder.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", os.devnull]
        # Files may be put into the folder by hand; they should be seen soon.
        command += ["--dir-cache-time", "1s", str(self._folder)]
        environ = container_environ({"RCLONE_AUTH_KEY": f'"{access.access_key},{access.secret_key}"'})
        self._child = self._children.start(command, environ=environ, folder=self._folder, on_line=self._note)
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if self._child.poll() is not None:
                self._child.collect()
                said = self._log.read_text(encoding="utf-8").strip().rpartition("\n")[2] if self._log.exists() else ""
                raise BintallyError(
                    f"the bucket's server does not start on port {port} (--set local.s3_port=0 takes a free one): {said}"
                )
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return dataclasses.replace(access, endpoint=f"http://127.0.0.1:{port}")
            time.sleep(0.05)
        self.stop()
        raise BintallyError(f"the bucket's server did not start within {_START_S:.0f} s: see {self._log}")

    def stop(self) -> None:
        """Ends the server."""
        if self._child is not None:
            self._child.finish(10)
            self._child = None

    def _note(self, line: str) -> None:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def free_port() -> int:
    """A port that nothing listens on at the moment.

    Below the range that systems give to outgoing connections: whoever is to listen may take seconds to start, and one
    of these would be gone by then.
    """
    luck = random.SystemRandom()
    for port in luck.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port
    raise BintallyError("of a hundred ports of this machine none is free")
