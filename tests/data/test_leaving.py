"""The end of a process, held against threads that Python did not start, as obstore's are.

In processes of their own: test runners have such threads too.
"""

import subprocess
import sys

import pytest

START = "import _thread, time\nfrom bintally.data.leaving import let_out\nbegin = time.monotonic()\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_foreign_thread_is_let_out() -> None:
    code = START + (
        "done = []\n"
        "_thread.start_new_thread(lambda: (time.sleep(0.3), done.append('out')), ())\n"
        "time.sleep(0.1)\n"
        "let_out(longest_s=60)\n"
        "print(*done)"
    )
    assert run(code) == "out\n"


@pytest.mark.parametrize(
    "staying",
    [
        "lock = _thread.allocate_lock(); lock.acquire(); _thread.start_new_thread(lock.acquire, ())",  # no Python code
        "import threading; threading.Thread(target=time.sleep, args=(4,), daemon=True).start()",
        "_thread.start_new_thread(lambda: time.sleep(30), ())",
    ],
    ids=["native", "daemon", "foreign"],
)
def test_it_does_not_wait_for_ever(staying: str) -> None:
    assert (
        float(run(f"{START}{staying}\ntime.sleep(0.1)\nlet_out(longest_s=0.2)\nprint(time.monotonic() - begin)")) < 4
    )


def test_whoever_opens_a_store_waits_at_its_end() -> None:
    code = (
        "import _thread, time, bintally.data.store\n"
        "_thread.start_new_thread(lambda: (time.sleep(0.3), print('out', flush=True)), ())\n"
        "time.sleep(0.1)"
    )
    assert run(code) == "out\n"
