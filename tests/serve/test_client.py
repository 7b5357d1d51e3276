"""The client, against a real server, a tiny fake one, and the hosting service's wire format."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from bintally.cli.app import app
from bintally.errors import BintallyError, EndpointError, UsageError
from bintally.serve.client import PredictSettings, draw, endpoint_of, predict
from tests.serve.stand_in import photo, serving

ANSWER = {
    "count": 3,
    "name": "3",
    "probability": 0.6,
    "probabilities": [0, 0, 0.3, 0.6, 0.1, 0],
    "expected": 2.8,
    "range": {"low": 2, "high": 3, "level": 0.9, "name": "2-3"},
    "model_id": "fake",
    "timings_ms": {"queue": 0, "decode": 0, "infer": 0},
}
Replies = list[tuple[int, dict[str, str], bytes]]


class Fake:
    """A server that gives prepared replies, the last one for ever, and keeps what it was sent."""

    def __init__(self, replies: Replies) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                fake.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, headers, answer = replies.pop(0) if len(replies) > 1 else replies[0]
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    made: list[Fake] = []

    def make(*replies: tuple[int, dict[str, str], bytes]) -> Fake:
        made.append(Fake(list(replies)))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


GOOD = (200, {}, json.dumps(ANSWER).encode())
FULL = (503, {"retry-after": "7"}, b'{"error": "full"}')


def ask(url: str, **more: Any) -> tuple[dict[str, Any], list[float]]:
    waits: list[float] = []
    endpoint = endpoint_of(url, token=more.pop("token", ""))
    try:
        return predict(endpoint, more.pop("photo", photo()), PredictSettings(**more), sleep=waits.append), waits
    finally:
        endpoint.close()


@pytest.mark.parametrize("tail", ["", "/", "/invocations"])
def test_the_root_and_the_full_path_both_do(fake: Callable[..., Fake], tail: str) -> None:
    server = fake(GOOD)
    assert ask(server.url + tail, token="abc")[0] == ANSWER
    path, headers, body = server.seen[0]
    assert (path, headers["authorization"], headers["content-type"]) == ("/invocations", "Bearer abc", "image/jpeg")
    assert body == photo()


def test_a_png_goes_out_as_such(fake: Callable[..., Fake]) -> None:
    server = fake(GOOD)
    ask(server.url, photo=photo(format_="PNG"))
    assert server.seen[0][1]["content-type"] == "image/png"


def test_a_full_server_is_asked_again_when_it_says(fake: Callable[..., Fake]) -> None:
    assert ask(fake(FULL, FULL, GOOD).url) == (ANSWER, [7.0, 7.0])
    assert ask(fake(FULL, FULL, GOOD).url, longest_wait_s=2) == (ANSWER, [2.0, 2.0])
    assert ask(fake((503, {}, b""), (503, {"retry-after": "soon"}, b""), GOOD).url)[1] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (FULL, r"answered 503: full .*2 attempts"),
        ((401, {}, b'{"error": "a bearer token is needed"}'), "--token"),
        ((404, {}, b"<html>no</html>"), "server's root"),
        ((200, {}, b"<html>hello</html>"), "not JSON"),
        ((200, {}, b'{"hello": 1}'), "without a count"),
        ((200, {}, b"[]"), "without a count"),
        ((500, {}, b"\xff\xfe"), "answered 500"),
    ],
)
def test_what_goes_wrong_is_one_clear_line(
    fake: Callable[..., Fake], reply: tuple[int, dict[str, str], bytes], says: str
) -> None:
    with pytest.raises(EndpointError, match=says) as caught:
        ask(fake(reply).url, attempts=2)
    assert "\n" not in str(caught.value)


def test_nobody_there() -> None:
    with pytest.raises(EndpointError, match="is the server running"):
        ask("http://127.0.0.1:9", attempts=2)


@pytest.mark.parametrize("odd", ["", "localhost:8080", "ftp://x", "sagemaker://", "sagemaker://a/b", "/a/file"])
def test_addresses_that_are_none(odd: str) -> None:
    with pytest.raises(UsageError, match="no endpoint"):
        endpoint_of(odd)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def use(url: str) -> None:
        for name, value in {
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
        }.items():
            monkeypatch.setenv(name, value)

    return use


def test_a_hosted_endpoint(fake: Callable[..., Fake], aws: Callable[[str], None]) -> None:
    throttled = (400, {"x-amzn-errortype": "ThrottlingException"}, b'{"message": "slow down"}')
    server = fake(throttled, GOOD)
    aws(server.url)
    assert ask("sagemaker://counter") == (ANSWER, [0.25])
    path, headers, body = server.seen[-1]
    assert path == "/endpoints/counter/invocations"
    assert headers["content-type"] == "image/jpeg"
    assert body == photo()


def test_a_hosted_endpoints_refusals(fake: Callable[..., Fake], aws: Callable[[str], None]) -> None:
    body = {"Message": "model error", "OriginalStatusCode": 422, "OriginalMessage": '{"error": "the file is empty"}'}
    aws(fake((424, {"x-amzn-errortype": "ModelError"}, json.dumps(body).encode())).url)
    assert ask("sagemaker://counter")[0] == {"error": "the file is empty"}
    aws(fake((400, {"x-amzn-errortype": "ValidationError"}, b'{"message": "Endpoint x not found"}')).url)
    with pytest.raises(EndpointError, match="not found"):
        ask("sagemaker://x")


@pytest.mark.parametrize(("width", "height"), [(20, 10), (315, 500), (1100, 400)])
def test_a_photo_is_drawn_with_its_count(width: int, height: int) -> None:
    source = io.BytesIO()
    Image.new("RGB", (width, height), "yellow").save(source, "JPEG")
    drawn = Image.open(io.BytesIO(draw(source.getvalue(), ANSWER)))
    assert drawn.width == max(width, 320)
    assert drawn.height > height
    strip = drawn.crop((0, round(height * drawn.width / width), drawn.width, drawn.height)).convert("L")
    assert strip.getextrema() == (0, 255)  # white words on black


def test_the_verb(tmp_path: Path) -> None:
    for place, data in enumerate((photo(10), photo(250), b"junk")):
        (tmp_path / f"{place}.jpg").write_bytes(data)
    files = [str(tmp_path / f"{place}.jpg") for place in range(3)]
    with serving(tmp_path, token="abc") as server:
        run = CliRunner().invoke(
            app, ["predict", server.url, *files, "--json", "--token", "abc", "--show", str(tmp_path / "shown")]
        )
        assert run.exit_code == 0, run.output
        found = [json.loads(line) for line in run.stdout.splitlines()]
        assert [one.get("count") for one in found] == [0, 5, None]
        assert found[2]["error"] == "not a JPEG or PNG photo"
        assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == ["0.jpg", "1.jpg"]
        table = CliRunner().invoke(app, ["predict", server.url, *files], env={"BINTALLY_TOKEN": "abc"})
        assert table.exit_code == 0
        assert "not a JPEG" in table.output
        missing = CliRunner().invoke(app, ["predict", server.url, str(tmp_path / "none.jpg")])
        assert isinstance(missing.exception, BintallyError)
        assert "cannot read" in str(missing.exception)
