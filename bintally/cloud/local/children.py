"""The programs that the service starts: their output line by line, their end, and none left over when it dies itself."""

import contextlib
import io
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from bintally import files

_LONGEST_LINE = 256 * 1024
_PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "COVERAGE_PROCESS_START", "HF_HOME"),
)


def container_environ(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program in a container: what a process here needs to run at all, and `extra`.

    Settings of the service's own user (BINTALLY_…, AWS_…) are not passed on, as they would not be there.
    """
    own = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return {**own, "PYTHONUNBUFFERED": "1", **extra}


class Child:
    """One running program. Its output goes line by line to a listener."""

    def __init__(self, process: subprocess.Popen[bytes], on_line: Callable[[str], None], mark: Path) -> None:
        self._process, self._on_line, self._mark = process, on_line, mark
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Sends it SIGTERM: the program alone, as a container's first process gets it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and what it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def finish(self, grace_s: float) -> int:
        """SIGTERM, and SIGKILL once the time is up. Returns the exit code; its last lines have been told then."""
        if self._process.poll() is None:
            self.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=grace_s)
        return self.collect()

    def collect(self) -> int:
        """Ends what is left of it, waits for its last lines and returns the exit code."""
        self.kill()  # what it started and left behind would hold its output open
        code = self._process.wait()
        self._reader.join(timeout=10)
        self._mark.unlink(missing_ok=True)
        return code

    def _read(self) -> None:
        out = cast("io.BufferedReader", self._process.stdout)
        rest = b""
        while chunk := out.read1(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._tell(line)
            if len(rest) > _LONGEST_LINE:
                self._tell(rest)
                rest = b""
        if rest:
            self._tell(rest)
        out.close()

    def _tell(self, line: bytes) -> None:
        # Of what a progress bar has drawn over, the last state is the line.
        text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
        if text.strip():
            self._on_line(text.rstrip())


class Children:
    """Every program that runs, with a mark in a folder, so that the next service finds what this one left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Child] = []

    def start(
        self, command: Sequence[str], *, environ: Mapping[str, str], folder: Path, on_line: Callable[[str], None]
    ) -> Child:
        """Starts a program.

        Args:
            command: program and arguments.
            environ: all of its environment.
            folder: its working folder.
            on_line: told each line of its output and errors; from a thread of its own.

        Raises:
            OSError: it cannot be started.
        """
        process = subprocess.Popen(
            list(command),
            env=dict(environ),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        mark = self._folder / f"{process.pid}.json"
        files.write_json(mark, {"pid": process.pid, "began": _began(process.pid)})
        child = Child(process, on_line, mark)
        self._started = [*(one for one in self._started if one.poll() is None), child]
        return child

    def kill_all(self) -> None:
        """Ends every program that still runs, at once."""
        for child in self._started:
            if child.poll() is None:
                child.collect()

    def end_leftovers(self) -> int:
        """Ends the programs of a service that was killed. Returns how many there were.

        A process is only touched when its id and its time of birth are both those that were noted.
        """
        left = []
        for mark in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                noted = json.loads(mark.read_text(encoding="utf-8"))
                if noted["began"] and _began(noted["pid"]) == noted["began"]:
                    left.append(int(noted["pid"]))
            mark.unlink(missing_ok=True)
        for pid in left:
            _signal(pid, signal.SIGTERM)
        until = time.monotonic() + 5
        while time.monotonic() < until and any(_began(pid) for pid in left):
            time.sleep(0.05)
        for pid in left:
            _signal(pid, signal.SIGKILL)
        return len(left)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _began(pid: int) -> str:
    """When a process was born, in the kernel's ticks since boot; empty when there is none, or no way to know."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
