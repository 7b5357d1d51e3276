"""The end of a process that had an object store open: it waits for the library's threads to come out of Python."""

import atexit
import sys
import threading
import time

GRACE_S = 0.03
LONGEST_S = 1.0


def wait_at_exit() -> None:
    """From now on the process waits at its end, shortly, for threads that are none of Python's own.

    obstore's threads hand an answer over by calling into Python. The main thread may go on before such a call has
    returned; a call that returns into an interpreter that is being torn down aborts the process (exit code 134 after
    "cannot be reached", once in seven times).
    """
    atexit.unregister(let_out)
    atexit.register(let_out)


def let_out(grace_s: float = GRACE_S, longest_s: float = LONGEST_S) -> None:
    """Waits until no foreign thread runs Python code.

    Args:
        grace_s: the shortest wait: for those that are about to come in, which nobody can see.
        longest_s: the longest.
    """
    end = time.monotonic() + longest_s
    soonest = time.monotonic() + grace_s
    while time.monotonic() < soonest or (_foreigners() and time.monotonic() < end):
        time.sleep(0.005)


def _foreigners() -> set[int]:
    """Threads with Python code on their stack that `threading` did not start."""
    own = {thread.ident for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}
    return {ident for ident in sys._current_frames() if ident not in own}
