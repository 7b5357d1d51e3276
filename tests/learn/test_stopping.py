"""Signals become a question; the second one acts by itself; other threads are left alone."""

import os
import signal
import threading

import pytest

from bintally.learn.stopping import stop_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_noted_and_handlers_come_back(number: signal.Signals, code: int) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    with stop_signals() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert stop.signal == number
        assert stop.exit_code == code
        assert signal.getsignal(number) == before[number]  # the second one acts
    assert {one: signal.getsignal(one) for one in before} == before


def test_the_second_interrupt_interrupts() -> None:
    with stop_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


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
