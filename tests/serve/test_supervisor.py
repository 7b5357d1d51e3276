"""Several workers: one limit, one set of figures, and one may die."""

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.serve.stand_in import Server, photo, serving

JPEG = {"content-type": "image/jpeg"}


def pids(server: Server) -> list[int]:
    return [line["pid"] for line in server.events("ready")]


def figure(server: Server, name: str) -> float:
    text = httpx.get(f"{server.url}/metrics").text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(name + r"[ {]", line))


def test_a_killed_worker_loses_only_what_it_held_and_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, ms=20, workers=2, batch=1) as server:
        stop = threading.Event()
        answered, lost = [], []

        def send() -> None:
            while not stop.is_set():
                try:
                    answered.append(
                        httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG).status_code
                    )
                except httpx.HTTPError as error:
                    lost.append(error)

        clients = [threading.Thread(target=send) for _ in range(4)]
        for one in clients:
            one.start()
        time.sleep(0.5)
        os.kill(pids(server)[0], signal.SIGKILL)
        server.wait_for("ready", 3)
        time.sleep(0.5)
        stop.set()
        for one in clients:
            one.join()
        assert set(answered) == {200}
        assert len(lost) <= 4  # no client had more than one in it
        assert len(server.events("a worker died and is started again")) == 1
        assert figure(server, "bintally_queue") == 0  # its places were given back
        # What the dead one had counted still counts; its last ones may have been answered and not yet added.
        assert abs(figure(server, "bintally_photos_total") - len(answered)) <= 4


def test_the_queue_is_bounded_over_all_workers(tmp_path: Path) -> None:
    with serving(tmp_path, ms=1500, workers=2, queue=3, max_photos=3, batch=1, threads=1) as server:

        def send(_: int) -> int:
            return httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG, timeout=30).status_code

        with ThreadPoolExecutor(12) as pool:
            statuses = list(pool.map(send, range(12)))
        assert statuses.count(200) == 3
        assert statuses.count(503) == 9


def test_figures_are_those_of_all_workers(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as server:
        for _ in range(40):  # a connection each, so that both workers get some
            httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG)
        for _ in range(5):
            assert figure(server, "bintally_photos_total") == 40
        assert {line["pid"] for line in server.events("request")} == set(pids(server))


def test_workers_do_not_outlive_their_supervisor(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as server:
        workers = pids(server)
        server.process.kill()
        server.process.wait()
        latest = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in workers):
            assert time.monotonic() < latest
            time.sleep(0.05)
