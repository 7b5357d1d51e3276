"""What the worker processes know of each other: photos taken and not yet answered, under one limit, and connections."""

import contextlib
import fcntl
import mmap
import os
import tempfile
from collections.abc import Iterator

_SIZE = 8  # bytes of one figure of one worker


class Slots:
    """A bounded number of places, shared by processes through inherited memory.

    Every worker keeps its own figure in it, so that a worker which was killed takes its places with it: the
    supervisor sets that figure to 0. The lock is the kernel's and falls with its holder.
    Not for several threads of a process: the event loop alone takes and gives.

    Attributes:
        capacity: how many places there are over all workers.
        fd: the memory's file descriptor, for processes to inherit.
    """

    def __init__(self, capacity: int, *, workers: int = 1, worker: int = 0, fd: int | None = None) -> None:
        self.capacity = capacity
        self._workers, self._worker = workers, worker
        self.fd = _memory(2 * workers * _SIZE) if fd is None else fd
        self._map = mmap.mmap(self.fd, 2 * workers * _SIZE)
        figures = memoryview(self._map).cast("q")
        self._used, self._open = figures[:workers], figures[workers:]

    @property
    def in_use(self) -> int:
        """Places taken over all workers."""
        return sum(self._used)

    @property
    def is_full(self) -> bool:
        """Whether no place is free just now."""
        return self.in_use >= self.capacity

    @property
    def connections(self) -> int:
        """Open connections of this worker."""
        return self._open[self._worker]

    @connections.setter
    def connections(self, number: int) -> None:
        self._open[self._worker] = number

    @property
    def fewest_connections(self) -> int:
        """Open connections of the worker that has the fewest; one that is being started has none."""
        return min(self._open)

    def take(self, places: int) -> bool:
        """Takes that many places, or none when they are not all free."""
        with self._locked():
            if self.in_use + places > self.capacity:
                return False
            self._used[self._worker] += places
            return True

    def give(self, places: int = 1) -> None:
        """Gives places back."""
        self._used[self._worker] -= places  # only this process writes this figure

    def clear(self, worker: int) -> None:
        """Gives back all places of a worker that is gone, and forgets its connections."""
        with self._locked():
            self._used[worker] = self._open[worker] = 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self._workers == 1:
            yield
            return
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)


def _memory(size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("bintally-slots")
    else:  # no Linux
        handle, name = tempfile.mkstemp()
        os.unlink(name)  # noqa: PTH108 - the name goes, the open file stays
        fd = handle
    os.ftruncate(fd, size)
    return fd
