"""What the program does before its verbs are there."""

import signal
import subprocess
import sys

SLOW_IMPORT = """
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "typer":
            print("importing", flush=True)
            time.sleep(120)
sys.meta_path.insert(0, Slow())
from bintally.cli import main
sys.argv = ["bintally", *sys.argv[1:]]
main()
"""


def test_a_server_told_to_stop_before_it_has_begun_exits_0() -> None:
    words = [sys.executable, "-c", SLOW_IMPORT, "serve", "models/int8"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGHUP)  # it will load the newest model anyway
        process.terminate()
        said, complained = process.communicate(timeout=60)
    assert (process.returncode, said, complained) == (0, b"", b"")
