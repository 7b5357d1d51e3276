"""The hosting service's contract, to the letter, over `bintally serve` in a tree laid out like /opt/ml."""

import base64
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.model_folder import make_model
from tests.model_folder import make_photo as photo
from tests.serve.stand_in import ROOT, Server, free_port

JPEG = {"content-type": "image/jpeg"}


@contextlib.contextmanager
def container(opt_ml: Path, **environ: str) -> Iterator[Server]:
    """`bintally serve`, as the hosting service starts the image: no argument, port 8080 unless told otherwise."""
    port = free_port()
    given = {"BINTALLY_OPT_ML": str(opt_ml), "SAGEMAKER_BIND_TO_PORT": str(port), "OMP_NUM_THREADS": "1", **environ}
    given["TMPDIR"] = str(opt_ml)
    log = opt_ml / f"log-{port}"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bintally", "serve"], env={**os.environ, **given}, stderr=out, cwd=ROOT
        )
    server = Server(process, port, log)
    try:
        server.wait_for("ready", int(environ.get("BINTALLY_SERVE_WORKERS", "1")), seconds=180)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def opt_ml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("opt-ml")
    make_model(root / "model")
    for path in (root / "model").iterdir():
        path.chmod(0o444)
    (root / "model").chmod(0o555)  # the model folder may be read-only
    return root


@pytest.fixture(scope="module")
def server(opt_ml: Path) -> Iterator[Server]:
    with container(opt_ml) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as made:
        yield made


def test_ping_is_200_within_two_seconds(client: httpx.Client) -> None:
    began = time.perf_counter()
    assert client.get("/ping").status_code == 200
    assert time.perf_counter() - began < 2


def test_ping_is_200_within_two_seconds_under_load(server: Server) -> None:
    data, stop = photo(width=800, height=600), threading.Event()

    def work() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                client.post(f"{server.url}/invocations", content=data, headers=JPEG)

    clients = [threading.Thread(target=work) for _ in range(16)]
    for one in clients:
        one.start()
    try:
        with httpx.Client(base_url=server.url, timeout=2) as client:
            for _ in range(20):
                assert client.get("/ping").status_code == 200
                time.sleep(0.05)
    finally:
        stop.set()
        for one in clients:
            one.join()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_invocations_takes_a_picture(client: httpx.Client, kind: str) -> None:
    headers = {"content-type": f"image/{kind.lower()}", "accept": "application/json"}
    answer = client.post("/invocations", content=photo(kind=kind), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert 0 <= answer.json()["count"] <= 5


def test_invocations_takes_json(client: httpx.Client) -> None:
    body = {"photos": [base64.b64encode(photo(seed)).decode() for seed in range(3)]}
    assert len(client.post("/invocations", json=body).json()["answers"]) == 3


def test_the_platforms_own_headers_are_no_trouble(client: httpx.Client) -> None:
    headers = {
        **JPEG,
        "x-amzn-sagemaker-custom-attributes": "trace=1",
        "x-amzn-sagemaker-inference-id": "id",
        "accept": "*/*",
        "connection": "keep-alive",
    }
    assert client.post("/invocations", content=photo(), headers=headers).status_code == 200


def test_a_real_time_payload_of_6_mb_is_taken_and_more_is_413(client: httpx.Client) -> None:
    # A JPEG with bytes behind its end is still that JPEG.
    data = photo()
    fits = data + bytes(6_000_000 - len(data))
    assert client.post("/invocations", content=fits, headers=JPEG).status_code == 200
    assert client.post("/invocations", content=fits + b"x", headers=JPEG).status_code == 413


def test_execution_parameters(client: httpx.Client) -> None:
    answer = client.get("/execution-parameters")
    assert answer.status_code == 200
    parameters: dict[str, Any] = answer.json()
    assert set(parameters) == {"MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB"}
    assert parameters["MaxConcurrentTransforms"] >= 1
    assert parameters["BatchStrategy"] in {"SINGLE_RECORD", "MULTI_RECORD"}
    assert parameters["MaxPayloadInMB"] == 6


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_under_load_finishes_what_was_taken_and_exits_0(opt_ml: Path, workers: str) -> None:
    with container(opt_ml, BINTALLY_SERVE_WORKERS=workers) as server:
        data, stop = photo(width=800, height=600), threading.Event()
        told = threading.Event()

        def work(_: int) -> list[int]:
            statuses = []
            with httpx.Client(timeout=60) as client:
                while not stop.is_set():
                    try:
                        statuses.append(
                            client.post(f"{server.url}/invocations", content=data, headers=JPEG).status_code
                        )
                    except (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
                        assert told.is_set()  # no connection is lost before; none is taken after
                        return statuses
            return statuses

        with ThreadPoolExecutor(6) as pool:
            clients = [pool.submit(work, place) for place in range(6)]
            time.sleep(1.0)
            told.set()
            began = time.monotonic()
            assert server.stop(signal.SIGTERM) == 0
            assert time.monotonic() - began < 30
            stop.set()
            statuses = [status for one in clients for status in one.result()]
        assert len(statuses) > 6
        assert set(statuses) == {200}
        # Everything that was begun was answered: the log has no request that ended otherwise.
        assert {line["status"] for line in server.events("request")} == {200}


def test_no_file_is_written_beside_the_model(server: Server, opt_ml: Path) -> None:
    assert {path.name for path in (opt_ml / "model").iterdir()} == {"openvino.xml", "openvino.bin", "model.json"}


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bintally", "serve", "--port", "0"],
        env={**os.environ, "BINTALLY_OPT_ML": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/model is no model folder")


def test_the_answers_are_the_engines(client: httpx.Client, opt_ml: Path, make_engine: Callable[[Path], Any]) -> None:
    engine = make_engine(opt_ml / "model")
    for seed in range(5):
        [expected] = engine.count([photo(seed)])
        found = client.post("/invocations", content=photo(seed), headers=JPEG).json()
        assert found["count"] == expected.count
        assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert found["model_id"] == engine.model_id


@pytest.fixture
def make_engine() -> Callable[[Path], Any]:
    from bintally.serve.engine import Engine

    return lambda folder: Engine.load(folder)
