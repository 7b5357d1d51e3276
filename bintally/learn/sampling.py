"""What the machine does while something runs: processors, memory, disk and GPUs, read several times a second."""

import contextlib
import csv
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

GPU_QUERY = ("index", "utilization.gpu", "utilization.memory", "memory.used", "memory.total")
"""What `nvidia-smi` is asked, in this order: per cent, per cent, MiB, MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU at one moment.

    Attributes:
        index: which one.
        percent: share of the last moments in which it computed, 0 to 100.
        memory_percent: share of its memory that is taken, 0 to 100.
        memory_mb: that memory.
    """

    index: int
    percent: float
    memory_percent: float
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The machine at one moment.

    Attributes:
        time: seconds since the sampler began.
        cpu: per cent of each core in use since the sample before, by anyone.
        io_wait: per cent of the cores' time spent waiting for the disk; 0 where the system does not tell.
        process_cpu: per cent of one core that this process took: 200 is two whole cores.
        rss_mb: this process's memory.
        read_mb_s: read from disk, by this process where the system tells, else by anyone.
        write_mb_s: written to disk, likewise.
        gpus: each GPU; empty where there is none.
    """

    time: float
    cpu: tuple[float, ...] = ()
    io_wait: float = 0.0
    process_cpu: float = 0.0
    rss_mb: float = 0.0
    read_mb_s: float = 0.0
    write_mb_s: float = 0.0
    gpus: tuple[GpuSample, ...] = ()

    @property
    def cpu_percent(self) -> float:
        """Mean over the cores, 0 to 100."""
        return sum(self.cpu) / len(self.cpu) if self.cpu else 0.0

    @property
    def gpu_percent(self) -> float | None:
        """Mean over the GPUs, 0 to 100; None where there is none."""
        return sum(gpu.percent for gpu in self.gpus) / len(self.gpus) if self.gpus else None


def parse_gpu_line(line: str) -> GpuSample | None:
    """Reads a line of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`; None for one that is no sample.

    A figure that the driver does not know ("[N/A]", "[Not Supported]") is taken as 0.
    """
    cells = [cell.strip() for cell in next(csv.reader([line]), [])]
    if len(cells) != len(GPU_QUERY) or not cells[0].isdigit():
        return None
    percent, _, used, total = (_figure(cell) for cell in cells[1:])
    return GpuSample(
        index=int(cells[0]), percent=percent, memory_percent=100 * used / total if total else 0.0, memory_mb=used
    )


def parse_gpus(text: str) -> tuple[GpuSample, ...]:
    """The newest sample of each GPU in what `nvidia-smi` printed, by index."""
    found = {gpu.index: gpu for line in text.splitlines() if (gpu := parse_gpu_line(line)) is not None}
    return tuple(found[index] for index in sorted(found))


def _figure(cell: str) -> float:
    with contextlib.suppress(ValueError):
        return float(cell)
    return 0.0


class Sampler:
    """Samples in a thread of its own while a block runs.

    Args:
        interval: seconds between samples.
    """

    def __init__(self, interval: float = 0.1) -> None:
        self._interval = interval
        self._process = psutil.Process()
        self._began = self._last = time.perf_counter()
        self._disk = self._disk_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._gpus = _GpuReader(interval)
        self._samples: list[Sample] = []

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What was sampled so far."""
        return tuple(self._samples)

    def now(self) -> float:
        """Seconds since the sampler began, the clock of its samples."""
        return time.perf_counter() - self._began

    def __enter__(self) -> "Sampler":
        # The first figures of these are since ever, not since a moment ago.
        psutil.cpu_percent(percpu=True)
        psutil.cpu_times_percent()
        self._process.cpu_percent()
        self._gpus.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._gpus.stop()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._samples.append(self._sample())

    def _sample(self) -> Sample:
        now = time.perf_counter()
        seconds, self._last = max(now - self._last, 1e-6), now
        before, self._disk = self._disk, self._disk_bytes()
        read, written = (max(0, new - old) / seconds / 1e6 for new, old in zip(self._disk, before, strict=True))
        return Sample(
            time=now - self._began,
            cpu=tuple(psutil.cpu_percent(percpu=True)),
            io_wait=float(getattr(psutil.cpu_times_percent(), "iowait", 0.0)),
            process_cpu=float(self._process.cpu_percent()),
            rss_mb=self._process.memory_info().rss / 1e6,
            read_mb_s=read,
            write_mb_s=written,
            gpus=self._gpus.newest(),
        )

    def _disk_bytes(self) -> tuple[int, int]:
        try:
            mine = self._process.io_counters()
            return mine.read_bytes, mine.write_bytes
        except (AttributeError, psutil.Error, OSError):  # not on macOS, and not in every container
            everyone = psutil.disk_io_counters()
            return (everyone.read_bytes, everyone.write_bytes) if everyone else (0, 0)


class _GpuReader:
    """Follows one `nvidia-smi` that keeps printing: starting one for each sample would cost more than a step."""

    def __init__(self, interval: float) -> None:
        self._program = shutil.which("nvidia-smi")
        self._every = max(100, int(1000 * interval))
        self._process: subprocess.Popen[str] | None = None
        self._newest: dict[int, GpuSample] = {}

    def start(self) -> None:
        if self._program is None:
            return
        query = [f"--query-gpu={','.join(GPU_QUERY)}", "--format=csv,noheader,nounits", f"--loop-ms={self._every}"]
        self._process = subprocess.Popen(
            [self._program, *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self._follow, name="nvidia-smi", daemon=True).start()

    def newest(self) -> tuple[GpuSample, ...]:
        newest = dict(self._newest)
        return tuple(newest[index] for index in sorted(newest))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _follow(self) -> None:
        assert self._process is not None  # noqa: S101 - it was started
        assert self._process.stdout is not None  # noqa: S101 - as a pipe
        with self._process.stdout as lines:
            for line in lines:
                if (gpu := parse_gpu_line(line)) is not None:
                    self._newest[gpu.index] = gpu


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile by linear interpolation between the nearest values; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
