import os
import subprocess
import sys

SPEAKS = """
from bintally.cli import console
bar = console.Bar()
bar.begin("counting photos", 1200)
bar.advance(600, note="half")
bar.message("a line")
bar.end()
console.note("done")
console.out_table("figures", ["what", "value"], [["accuracy", "0.4"]])
"""


def test_what_is_piped_has_neither_bars_nor_colours() -> None:
    environ = os.environ | {
        "FORCE_COLOR": "1",
        "CLICOLOR_FORCE": "1",
        "TERM": "xterm-color",
    }  # as a notebook sets them
    done = subprocess.run([sys.executable, "-c", SPEAKS], env=environ, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["counting photos (1,200) …", "a line", "done"]
    assert "accuracy" in done.stdout
    assert "\x1b" not in done.stdout
