"""Freed blocks stay with the process: who asks again gets them without the kernel."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from bintally.learn.memory import keep_freed_memory
print(keep_freed_memory() if "keep" in sys.argv else "left")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(10 << 20).fill_(1.0)  # 40 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# Small blocks may settle where a large one lay, up to eight times as seen here: then the next one lies behind it.
counts = [faults() for _ in range(40)]
print(counts[0], max(counts[-10:]))
"""


def run(*words: str, **environ: str) -> tuple[str, int, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True, env={**clean, **environ}
    ).stdout.split()
    return out[0], int(out[1]), int(out[2])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own way")
def test_a_block_that_was_freed_is_had_again_without_the_kernel() -> None:
    kept, first, again = run("keep")
    assert kept == "True"
    assert again < first / 20
    _, first, again = run()
    assert again > first / 2  # or there would be nothing to mend


def test_what_the_environment_says_goes() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
