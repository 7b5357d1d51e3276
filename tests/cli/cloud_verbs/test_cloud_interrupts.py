"""Ctrl-C while a job is followed: it goes on and is not forgotten, or stops when that was asked for."""

import re
import signal
import subprocess
import sys
import time

from tests.cli.cloud_verbs.asking import DATA, told
from tests.cloud.local.running import Cloud, unique


def following(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bintally", "cloud", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )


def interrupted(running: "subprocess.Popen[str]") -> tuple[int, str]:
    """Waits until the training trains, and sends Ctrl-C."""
    assert running.stderr is not None
    said = ""
    until = time.monotonic() + 120
    for line in running.stderr:
        said += line
        if re.search(r"\d:\d\d  Training", line) or time.monotonic() > until:
            break
    running.send_signal(signal.SIGINT)
    try:
        _, rest = running.communicate(timeout=120)
    finally:
        running.kill()
    return running.returncode, said + rest


def test_an_interrupt_leaves_the_job_and_says_so(cloud: Cloud, project: str) -> None:
    job = unique("followed")
    code, said = interrupted(
        following("train", DATA, "--project", project, "--name", job, "--hyperparameter", "seconds=300")
    )
    assert code == 130, said
    last = said.splitlines()[-1]
    assert last.startswith(f"error: stopped following; the training {job} goes on. Follow it again: ")
    assert f"bintally cloud status {job} --follow --project {project}" in last
    assert f"bintally cloud stop {job} --project {project}" in last
    assert told("status", job)["status"] == "InProgress"
    assert told("stop", job, "--project", project)["status"] == "Stopped"


def test_or_stops_it_when_that_was_asked_for(cloud: Cloud, project: str) -> None:
    job = unique("followed")
    words = ("--name", job, "--hyperparameter", "seconds=300", "--stop-on-interrupt")
    code, said = interrupted(following("train", DATA, "--project", project, *words))
    assert code == 130, said
    assert said.splitlines()[-1] == f"error: training {job} is Stopped; what it had written is kept"
    assert told("status", job)["status"] == "Stopped"
