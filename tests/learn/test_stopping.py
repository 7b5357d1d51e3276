"""Signals become a question; the second one acts by itself; other threads are left alone."""

import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from bintally.learn.stopping import stop_signals


def in_a_process(code: str) -> str:
    """Runs code in a process of its own: test runners move tests to other threads, where no signal is caught."""
    head = "import os, signal\nfrom bintally.learn.stopping import stop_signals\n"
    head += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what runs in the background inherits none
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_is_noted_and_handlers_come_back(name: str, code: int) -> None:
    told = in_a_process(
        f"""
        number = signal.{name}
        before = {{one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}}
        with stop_signals() as stop:
            assert stop.signal == 0
            os.kill(os.getpid(), number)
            assert stop.signal == number
            assert signal.getsignal(number) == before[number], "the second one acts"
        assert {{one: signal.getsignal(one) for one in before}} == before
        print(stop.exit_code)
        """
    )
    assert told.strip() == str(code)


def test_the_second_interrupt_interrupts() -> None:
    told = in_a_process(
        """
        try:
            with stop_signals():
                os.kill(os.getpid(), signal.SIGINT)
                print("noted")
                os.kill(os.getpid(), signal.SIGINT)
                print("not reached")
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert told.split() == ["noted", "interrupted"]


def test_in_another_thread_it_stays_quiet() -> None:
    seen: list[int] = []

    def work() -> None:
        with stop_signals() as stop:
            seen.append(stop.signal)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]
    assert signal.getsignal(signal.SIGTERM) == before
