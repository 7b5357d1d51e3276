"""SIGTERM and SIGINT as a question that a loop asks itself, so that it can put its work away first."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Whether somebody asked to stop.

    Attributes:
        signal: the signal's number, 0 when none came.
    """

    def __init__(self) -> None:
        self.signal = 0

    @property
    def exit_code(self) -> int:
        """What shells and schedulers expect: 128 + the signal's number."""
        return 128 + (self.signal or signal.SIGTERM)


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Catches SIGTERM and SIGINT while the block runs; the second one acts as it would have without us.

    Signals can only be caught in the main thread: elsewhere nothing is, and the `Stop` stays quiet.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
