"""One serving process: starting, stopping, taking up a new model."""

import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from bintally.errors import UsageError
from bintally.serve.options import ServeSettings
from bintally.serve.worker import bind
from tests.serve.stand_in import Server, free_port, photo, serving

JPEG = {"content-type": "image/jpeg"}


def test_an_address_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1"):
            bind(ServeSettings(port=other.getsockname()[1]))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_is_not_fit_ends_it_with_one_line(tmp_path: Path, workers: int) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.txt").write_text("nonsense")
    with pytest.raises(AssertionError, match="is no model folder"), serving(tmp_path, workers=workers):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_finishes_what_it_has_and_exits_0(tmp_path: Path, number: int, workers: int) -> None:
    with serving(tmp_path, ms=800, workers=workers, batch=1) as server, ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(httpx.post, f"{server.url}/invocations", content=photo(), headers=JPEG) for _ in range(8)]
        with httpx.Client(base_url=server.url) as client:
            while "bintally_queue 8.0" not in client.get("/metrics").text:  # until all have been taken
                assert not any(one.done() for one in sent)
                time.sleep(0.02)
        began = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - began < 10
        assert [one.result().status_code for one in sent] == [200] * 8
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/ping")


def test_stopping_while_the_model_loads_exits_0(tmp_path: Path) -> None:
    code = (
        "import time; from bintally.serve import worker; from bintally.serve.options import ServeSettings\n"
        f"worker.serve_one(ServeSettings(port={free_port()}), lambda: print('loading', flush=True) or time.sleep(60))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()


def test_slow_clients_cannot_take_all_open_files(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from tests.serve import stand_in\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (48, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "stand_in.main()"
    )
    with serving(tmp_path, program=(sys.executable, "-c", code)) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        answer = httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG, timeout=5)
        assert answer.status_code == 200
        for one in silent:
            one.close()


def steady(server: Server, stop: threading.Event, found: list[tuple[int, str]]) -> None:
    with httpx.Client(timeout=20) as client:
        while not stop.is_set():
            answer = client.post(f"{server.url}/invocations", content=photo(), headers=JPEG)
            found.append((answer.status_code, answer.json().get("model_id", "")))


@pytest.mark.parametrize("workers", [1, 2])
def test_hangup_takes_up_a_new_model_and_drops_nothing(tmp_path: Path, workers: int) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.txt").write_text(f"{name} 3")
    (tmp_path / "model").symlink_to(tmp_path / "first")
    with serving(tmp_path, workers=workers) as server:
        stop, found = threading.Event(), list[tuple[int, str]]()
        clients = [threading.Thread(target=steady, args=(server, stop, found)) for _ in range(4)]
        for one in clients:
            one.start()
        time.sleep(0.4)
        link = tmp_path / "new"
        link.symlink_to(tmp_path / "second")
        link.replace(tmp_path / "model")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("took up a new model", workers)
        time.sleep(0.3)
        after = len(found)
        time.sleep(0.3)
        stop.set()
        for one in clients:
            one.join()
        assert {status for status, _ in found} == {200}
        assert found[0][1] == "first"
        assert {model for _, model in found[after:]} == {"second"}

        (tmp_path / "second" / "model.txt").write_text("broken")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("the new model is not fit: the old one stays", workers)
        answer = httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG).json()
        assert answer["model_id"] == "second"
        assert 'bintally_reloads_total{outcome="failed"}' in httpx.get(f"{server.url}/metrics").text
