"""The HTTP interface, over a real server process with a stand-in for the engine."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from benchmarks._load import request_of, shoot
from tests.serve.stand_in import Server, count_of, photo, serving

JPEG = {"content-type": "image/jpeg"}
SENT = {"content": photo(), "headers": JPEG}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("app"), max_body_mb=0.1, max_photos=4) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as made:
        yield made


def test_one_photo(client: httpx.Client) -> None:
    answer = client.post("/invocations", content=photo(200), headers=JPEG).json()
    assert answer["count"] == count_of(200) == 4
    assert answer["name"] == "4"
    assert abs(sum(answer["probabilities"]) - 1) < 1e-4
    assert answer["probability"] == max(answer["probabilities"])
    assert answer["range"]["low"] <= 4 <= answer["range"]["high"]
    assert sum(answer["probabilities"][answer["range"]["low"] : answer["range"]["high"] + 1]) >= 0.9
    assert answer["expected"] == pytest.approx(sum(n * p for n, p in enumerate(answer["probabilities"])), abs=1e-3)
    assert answer["model_id"] == "first"
    assert set(answer["timings_ms"]) == {"queue", "decode", "infer"}
    assert answer["timings_ms"]["infer"] >= 1


def test_a_png_counts_like_the_jpeg(client: httpx.Client) -> None:
    png = client.post("/invocations", content=photo(200, format_="PNG"), headers={"content-type": "image/png"})
    assert png.json()["count"] == 4


def test_several_as_json_and_as_lines(client: httpx.Client) -> None:
    greys = [10, 100, 250]
    body = {"photos": [base64.b64encode(photo(grey)).decode() for grey in greys] + [""]}
    whole = client.post("/invocations", json=body).json()["answers"]
    assert [one["count"] for one in whole[:3]] == [count_of(grey) for grey in greys]
    assert "empty" in whole[3]["error"]
    lines = client.post("/invocations", json=body, headers={"accept": "application/jsonlines"})
    assert lines.headers["content-type"] == "application/jsonlines"
    assert [json.loads(line).get("count") for line in lines.text.splitlines()] == [0, 2, 5, None]


def test_several_as_a_form(client: httpx.Client) -> None:
    files = [("photos", ("a.jpg", photo(10))), ("photos", ("b.jpg", b"junk"))]
    first, second = client.post("/v1/count", files=files).json()["answers"]
    assert (first["photo"], first["count"]) == ("a.jpg", 0)
    assert second["photo"] == "b.jpg"
    assert "error" in second


def test_explain_gives_a_picture(client: httpx.Client) -> None:
    answer = client.post("/v1/explain", content=photo(), headers=JPEG).json()
    assert answer["count"] == 3
    assert Image.open(BytesIO(base64.b64decode(answer["heat_png"]))).size == (8, 8)


def bomb() -> bytes:
    out = BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("method", "path", "status", "more"),
    [
        ("POST", "/invocations", 415, {"content": b"x", "headers": {"content-type": "text/plain"}}),
        ("POST", "/invocations", 415, {"content": b"x"}),
        ("POST", "/invocations", 422, {"content": b"junk", "headers": JPEG}),
        ("POST", "/invocations", 422, {"content": b"", "headers": JPEG}),
        ("POST", "/invocations", 422, {"content": photo()[:300], "headers": JPEG}),
        ("POST", "/invocations", 413, {"content": b"x" * 100_001, "headers": JPEG}),
        ("POST", "/invocations", 413, {"content": iter([b"x" * 60_000] * 2), "headers": JPEG}),
        ("POST", "/invocations", 413, {"json": {"photos": ["AAAA"] * 5}}),
        ("POST", "/invocations", 400, {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("POST", "/invocations", 422, {"json": {"photos": ["not base64!"]}}),
        ("POST", "/invocations", 422, {"json": {"photos": [{"uri": "file:///etc/passwd"}]}}),
        ("POST", "/invocations", 406, {"content": photo(), "headers": {**JPEG, "accept": "text/html"}}),
        ("POST", "/v1/count", 415, {"content": photo(), "headers": JPEG}),
        ("POST", "/v1/count", 400, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        ("POST", "/v1/count", 422, {"files": {"other": b"x"}}),
        ("POST", "/v1/explain", 422, {"content": b"junk", "headers": JPEG}),
        ("GET", "/invocations", 405, {}),
        ("POST", "/ping", 405, {}),
        ("GET", "/nowhere", 404, {}),
        ("GET", "/../../etc/passwd", 404, {}),
    ],
)
def test_refusals(client: httpx.Client, method: str, path: str, status: int, more: dict[str, Any]) -> None:
    answer = client.request(method, path, **more)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert ("allow" in answer.headers) == (status == 405)
    assert client.get("/ping").status_code == 200


def test_a_bomb_is_refused_undecoded(client: httpx.Client) -> None:
    data = bomb()
    assert len(data) < 100_000
    began = time.perf_counter()
    answer = client.post("/invocations", content=data, headers={"content-type": "image/png"})
    assert answer.status_code == 422
    assert "pixels" in answer.json()["error"]
    assert time.perf_counter() - began < 2


def test_request_ids_are_echoed_and_logged(client: httpx.Client, server: Server) -> None:
    answer = client.post("/invocations", content=photo(), headers={**JPEG, "x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert client.get("/ping", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
    latest = time.monotonic() + 5
    while not (line := [one for one in server.events("request") if one["request_id"] == "mine-1"]):
        assert time.monotonic() < latest
        time.sleep(0.02)
    assert (line[0]["path"], line[0]["status"]) == ("/invocations", 200)


def test_figures(client: httpx.Client) -> None:
    client.post("/invocations", content=photo(), headers=JPEG)
    text = client.get("/metrics").text
    assert 'bintally_requests_total{route="/invocations",status="200"}' in text
    assert "bintally_queue 0.0" in text


def test_the_token_guards_all_but_ping_and_the_pages(tmp_path: Path) -> None:
    with serving(tmp_path, token="s3cret") as server, httpx.Client(base_url=server.url) as client:
        for path in ("/ping", "/", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200, path
        for path in ("/metrics", "/execution-parameters"):
            assert client.get(path).status_code == 401, path
        answer = client.post("/invocations", content=photo(), headers=JPEG)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        right = {"authorization": "Bearer s3cret"}
        assert client.post("/invocations", content=photo(), headers={**JPEG, **right}).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200
        assert "s3cret" not in server.log.read_text()


def test_a_slow_engine_is_504_and_frees_its_place(tmp_path: Path) -> None:
    with serving(tmp_path, ms=600, time_limit_s=0.2, threads=1) as server:
        began = time.perf_counter()
        answer = httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG)
        assert answer.status_code == 504
        assert time.perf_counter() - began < 2
        time.sleep(0.8)
        assert "bintally_queue 0.0" in httpx.get(f"{server.url}/metrics").text


def test_overload_is_answered_at_once_and_passes(tmp_path: Path) -> None:
    # Two threads at 50 ms a photo: 40 photos a second. They come at 400 a second for three seconds, come what may.
    with serving(tmp_path, ms=50, queue=8, max_photos=8, batch=1, retry_after_s=3, time_limit_s=5) as server:
        shots = shoot(server.port, [request_of(photo())], rate=400, seconds=3)
        statuses = {shot.status for shot in shots}
        assert statuses == {200, 503}
        assert len(shots) >= 1000
        assert sum(shot.status == 200 for shot in shots) >= 0.7 * 40 * 3
        refused = sorted(shot.seconds for shot in shots if shot.status == 503)
        assert refused[len(refused) // 2] < 0.05
        answered = sorted(shot.seconds for shot in shots if shot.status == 200)
        assert answered[-1] < 5
        assert httpx.get(f"{server.url}/ping", timeout=2).status_code == 200
        full = httpx.post(f"{server.url}/invocations", content=photo(), headers=JPEG)
        assert full.status_code == 200
        assert len(server.events("refused")) < 10  # summed up, not one line each


def test_a_full_house_says_when_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, ms=700, queue=1, max_photos=1, threads=1, retry_after_s=3) as server:
        first = threading.Thread(target=httpx.post, args=(f"{server.url}/invocations",), kwargs=SENT)
        first.start()
        with httpx.Client(base_url=server.url) as client:
            while "bintally_queue 1.0" not in client.get("/metrics").text:
                time.sleep(0.01)
            answer = client.post("/invocations", content=photo(), headers=JPEG)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
            assert client.get("/ping").status_code == 200
        first.join()
