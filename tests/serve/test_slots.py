"""The limit that all workers share."""

import os
import signal
import subprocess
import sys

from bintally.serve.slots import Slots


def test_all_or_nothing() -> None:
    slots = Slots(4)
    assert slots.take(3)
    assert not slots.take(2)
    assert slots.in_use == 3
    assert slots.take(1)
    assert slots.is_full
    slots.give(4)
    assert slots.in_use == 0


def test_two_workers_share_one_limit() -> None:
    first = Slots(4, workers=2)
    second = Slots(4, workers=2, worker=1, fd=os.dup(first.fd))
    assert first.take(2)
    assert second.take(2)
    assert not first.take(1)
    assert not second.take(1)
    second.connections = 5
    assert (first.connections, first.fewest_connections, second.connections) == (0, 0, 5)
    first.connections = 7
    assert first.fewest_connections == 5
    first.clear(1)  # the second was killed
    assert first.in_use == 2
    assert (first.connections, first.fewest_connections) == (7, 0)
    assert first.take(2)


def test_processes_that_race_never_exceed_it_and_a_killed_one_frees_the_lock() -> None:
    slots = Slots(50, workers=3)
    code = (
        "import sys; from bintally.serve.slots import Slots\n"
        "slots = Slots(50, workers=3, worker=int(sys.argv[1]), fd=int(sys.argv[2]))\n"
        "print(sum(slots.take(1) for _ in range(200)))"
    )
    racing = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number), str(slots.fd)], pass_fds=(slots.fd,), stdout=subprocess.PIPE
        )
        for number in (1, 2)
    ]
    taken = [int(one.communicate(timeout=60)[0]) for one in racing]
    assert sum(taken) == 50 == slots.in_use
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX); print('held', flush=True); "
            "time.sleep(60)",
            str(slots.fd),
        ],
        pass_fds=(slots.fd,),
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    slots.clear(1)
    assert slots.in_use == taken[1]
