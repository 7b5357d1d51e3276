"""How many cores there are for this process."""

import os


def num_cores() -> int:
    """The cores that this process may use, which a container or `taskset` may have made fewer than the machine has."""
    # Only some systems let one ask (macOS does not).
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
