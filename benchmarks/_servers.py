"""Servers as processes for the serving benchmarks: ours, the rivals, the bare runtime; photos as taken; quantiles."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._load import Shot, load
from tests.serve.stand_in import free_port

CLIENTS = 8
ROOT = Path(__file__).parents[1]


class Running:
    """A server process.

    Attributes:
        port: where it listens.
        start_s: seconds from the start of the process to its first answer.
    """

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.port = port
        began = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        while not self.answers():
            if self.process.poll() is not None or time.perf_counter() - began > 120:
                self.stop()
                raise RuntimeError(f"{' '.join(command)} does not serve")
            time.sleep(0.01)
        self.start_s = time.perf_counter() - began

    def answers(self) -> bool:
        """Whether it answers at all, whatever it says."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    @property
    def resident_mb(self) -> float:
        """Memory of the process, in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def children(self) -> list[int]:
        """Process ids of its workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(one) for one in text.split()]

    def stop(self) -> None:
        """Ends it and whatever it started."""
        for number, patience in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                return


@contextlib.contextmanager
def ours(folder: Path, *settings: str) -> Iterator[Running]:
    """`bintally serve`, with `--set` for each of the settings."""
    port = free_port()
    words = [one for setting in settings for one in ("--set", setting)]
    with _running([sys.executable, "-m", "bintally", "serve", str(folder), "--port", str(port), *words], port) as it:
        yield it


@contextlib.contextmanager
def rival(name: str, folder: Path) -> Iterator[Running]:
    """One of `_rivals`."""
    port = free_port()
    with _running([sys.executable, "-m", "benchmarks._rivals", name, str(folder), str(port)], port) as it:
        yield it


@contextlib.contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[Running]:
    made = Running(command, port)
    try:
        yield made
    finally:
        made.stop()


def processor_s(pid: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def photo_files() -> list[Path]:
    """200 photos as taken, from the folder that BINTALLY_ORIGINALS names."""
    folder = os.environ.get("BINTALLY_ORIGINALS")
    if not folder:
        raise SystemExit("this benchmark needs BINTALLY_ORIGINALS, a folder of full-size photos")
    return sorted((Path(folder) / "bin-images").glob("*.jpg"))[:200]


def rate(server: Running, photos: Sequence[Path], seconds: float) -> float:
    """Photos a second with `CLIENTS` clients, each waiting for its answer."""
    load(server.port, photos, clients=CLIENTS, seconds=2)
    shots = load(server.port, photos, clients=CLIENTS, seconds=seconds)
    if any(shot.status != 200 for shot in shots):
        raise RuntimeError(f"not all were answered: {sorted({shot.status for shot in shots})}")
    return len(shots) / max(shot.due + shot.seconds for shot in shots)


def quantile(shots: Sequence[Shot], share: float) -> float:
    """Milliseconds within which that share was answered."""
    times = sorted(shot.seconds for shot in shots)
    return 1e3 * times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


def tell(line: str) -> None:
    """What was found so far, to standard error: a run that is cut short leaves it."""
    print(line, file=sys.stderr, flush=True)
