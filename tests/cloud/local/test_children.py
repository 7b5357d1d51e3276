import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bintally.cloud.local.children import Child, Children, container_environ
from tests.cloud.local.running import wait_for


def start(children: Children, folder: Path, code: str, lines: list[str]) -> Child:
    return children.start(
        [sys.executable, "-S", "-c", code], environ=container_environ({}), folder=folder, on_line=lines.append
    )


def test_output_comes_line_by_line(tmp_path: Path) -> None:
    lines: list[str] = []
    code = (
        "import sys; print('one'); print(); sys.stdout.write('10 %\\r50 %\\r100 %\\n'); sys.stdout.flush();"
        "sys.stderr.write('wrong\\n'); sys.stderr.flush(); sys.stdout.buffer.write(b'\\xff no newline')"
    )
    child = start(Children(tmp_path), tmp_path, code, lines)
    wait_for(child.poll, lambda exit_code: exit_code is not None)
    assert child.collect() == 0
    assert lines == ["one", "100 %", "wrong", "� no newline"]
    assert list(tmp_path.iterdir()) == []


def test_sigterm_then_sigkill(tmp_path: Path) -> None:
    lines: list[str] = []
    children = Children(tmp_path)
    polite = start(children, tmp_path, "import time; print('up'); time.sleep(300)", lines)
    wait_for(lambda: lines, bool)
    assert polite.finish(60) == -signal.SIGTERM
    lines.clear()
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(300)"
    child = start(children, tmp_path, deaf, lines)
    wait_for(lambda: lines, bool)
    assert child.finish(0.2) == -signal.SIGKILL


def test_nothing_that_it_started_stays(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '300']); print(p.pid)"
    child = start(Children(tmp_path), tmp_path, code, lines)
    wait_for(child.poll, lambda exit_code: exit_code is not None)
    child.collect()
    wait_for(lambda: is_alive(int(lines[0])), lambda alive: not alive)


def test_what_a_killed_service_left_is_ended(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bintally.cloud.local.children import Children\n"
        "c = Children(Path(sys.argv[1])).start(['sleep', '300'], environ={'PATH': '/usr/bin:/bin'},"
        " folder=Path('/'), on_line=print)\n"
        "print(c.pid, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        service.kill()
    assert is_alive(pid)
    (tmp_path / "1.json").write_text('{"pid": 1, "began": "another"}')
    assert Children(tmp_path).end_leftovers() == 1
    wait_for(lambda: is_alive(pid), lambda alive: not alive)
    assert is_alive(1)
    assert list(tmp_path.iterdir()) == []


def test_all_at_once(tmp_path: Path) -> None:
    children, lines = Children(tmp_path), list[str]()
    some = [start(children, tmp_path, "import time; time.sleep(300)", lines) for _ in range(2)]
    children.kill_all()
    assert [child.poll() for child in some] == [-signal.SIGKILL] * 2


def test_the_users_own_settings_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("BINTALLY_SERVE_TOKEN", "secret")
    environ = container_environ({"SM_HOSTS": "[]"})
    assert not environ.keys() & {"AWS_PROFILE", "BINTALLY_SERVE_TOKEN"}
    assert environ["SM_HOSTS"] == "[]"
    assert environ["PATH"] == os.environ["PATH"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    time.sleep(0)
    return state != "Z"
