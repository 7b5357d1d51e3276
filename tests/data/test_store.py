import asyncio
import http.server
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bintally.data.store import ObjectInfo, Store, StoreSettings, open_store
from bintally.errors import (
    AccessDeniedError,
    ObjectNotFoundError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)

QUICK = {"backoff_s": 0.01, "timeout_s": 5.0, "connect_timeout_s": 2.0}


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers with what `script` says for a path: a list of statuses or words, one for each time it is asked."""

    protocol_version = "HTTP/1.1"
    script: ClassVar[dict[str, list[Any]]] = {}
    asked: ClassVar[Counter[str]] = Counter()
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        steps = self.script.get(path, [404])
        step = steps[min(self.asked[path], len(steps) - 1)]
        self.asked[path] += 1
        self.seen.append(dict(self.headers))
        if step == "reset":
            self.close_connection = True
            return
        if step == "slow":
            time.sleep(0.6)
            step = b"late"
        status, body = (200, step) if isinstance(step, bytes) else (200, b"x" * 50) if step == "cut" else (step, b"")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) * (2 if step == "cut" else 1)))
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = step == "cut"

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[tuple[str, type[Scripted]]]:
    class Handler(Scripted):
        script: ClassVar[dict[str, list[Any]]] = {}
        asked: ClassVar[Counter[str]] = Counter()
        seen: ClassVar[list[dict[str, str]]] = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", Handler
        running.shutdown()


def s3(url: str, **settings: Any) -> Store:
    return open_store("s3://b", StoreSettings(endpoint=url, unsigned=True, **(QUICK | settings)))


def get(store: Store, name: str) -> bytes:
    return asyncio.run(store.get(name))


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, "reset", "cut"])
def test_passing_trouble_is_tried_again(server: Any, trouble: Any) -> None:
    url, handler = server
    handler.script["/b/x"] = [trouble, trouble, b"there"]
    assert get(s3(url), "x") == b"there"
    assert handler.asked["/b/x"] == 3


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (404, ObjectNotFoundError, "s3://b/x: there is no such object"),
        (403, AccessDeniedError, r"s3://b/x: access denied \(403\)"),
        (401, AccessDeniedError, r"s3://b/x: access denied \(401\)"),
        (400, StoreError, "s3://b/x: the store answered 400"),
    ],
)
def test_lasting_trouble_is_not(server: Any, trouble: int, error: type[Exception], says: str) -> None:
    url, handler = server
    handler.script["/b/x"] = [trouble]
    with pytest.raises(error, match=says):
        get(s3(url), "x")
    assert handler.asked["/b/x"] == 1


@pytest.mark.parametrize(
    ("trouble", "says"),
    [(500, r"answered 500 \(3 tries\)"), ("cut", "broke off"), ("reset", "broke off"), ("slow", "in time")],
)
def test_patience_ends(server: Any, trouble: Any, says: str) -> None:
    url, handler = server
    handler.script["/b/x"] = [trouble]
    with pytest.raises(StoreError, match=says) as caught:
        get(s3(url, retries=2, timeout_s=0.3), "x")
    assert "\n" not in str(caught.value)
    assert handler.asked["/b/x"] == 3


def test_a_slow_answer_is_waited_for(server: Any) -> None:
    url, handler = server
    handler.script["/b/x"] = ["slow"]
    assert get(s3(url, timeout_s=5.0), "x") == b"late"
    assert handler.asked["/b/x"] == 1


def test_an_endpoint_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"  # bound and not listening: refused
        start = time.monotonic()
        with pytest.raises(StoreUnreachableError, match=r"s3://b: http://127\.0\.0\.1:\d+ cannot be reached"):
            get(s3(url, retries=9, backoff_s=0.5), "x")
        with pytest.raises(StoreUnreachableError, match="cannot be reached"):
            get(open_store(f"{url}/b", StoreSettings(retries=9, backoff_s=0.5)), "x")
        assert time.monotonic() - start < 20  # nine retries of each would take minutes
    with pytest.raises(StoreUnreachableError, match=r"nohost\.invalid cannot be reached"):
        get(s3("http://nohost.invalid"), "x")


def test_a_server_that_answered_before_gets_all_the_patience(server: Any) -> None:
    url, handler = server
    handler.script["/b/x"] = [b"x", "reset", "reset", "reset", "reset", b"y"]

    async def twice() -> tuple[bytes, bytes]:
        store = s3(url)
        return await store.get("x"), await store.get("x")

    assert asyncio.run(twice()) == (b"x", b"y")


def test_the_public_bucket_is_asked_unsigned(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, handler = server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    handler.script = {"/aft-vbi-pds/x": [b"x"], "/b/x": [b"x"]}
    settings = StoreSettings(endpoint=url, **QUICK)
    assert get(open_store("s3://aft-vbi-pds", settings), "x") == b"x"
    assert not any(key.lower() == "authorization" for key in handler.seen[-1])
    assert get(open_store("s3://b", settings), "x") == b"x"
    signed = {key.lower(): value for key, value in handler.seen[-1].items()}
    assert "us-east-1/s3" in signed["authorization"]


def test_no_credentials_is_one_line(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    url, _ = server
    with pytest.raises(AccessDeniedError, match=r"no credentials found: set AWS_ACCESS_KEY_ID.*store\.unsigned=true"):
        get(open_store("s3://b", StoreSettings(endpoint=url, **QUICK)), "x")


def test_a_web_server_gives_but_does_not_list(server: Any) -> None:
    url, handler = server
    handler.script = {"/some/folder/bin-images/1.jpg": [b"photo"]}
    store = open_store(f"{url}/some/folder/", StoreSettings(**QUICK))
    assert get(store, "bin-images/1.jpg") == b"photo"
    info = asyncio.run(store.head("bin-images/1.jpg"))
    assert isinstance(info, ObjectInfo)
    assert (info.name, info.num_bytes) == ("bin-images/1.jpg", 5)
    with pytest.raises(ObjectNotFoundError):
        get(store, "bin-images/2.jpg")

    async def listed() -> list[ObjectInfo]:
        return [one async for one in store.list()]

    assert not store.can_list
    with pytest.raises(StoreError, match="cannot be listed"):
        asyncio.run(listed())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "empty"),
        ("s3://", "name the bucket"),
        ("gopher://x", "a store is"),
        ("file://host/x", "three slashes"),
        ("https:///x", "name the host"),
    ],
)
def test_what_is_no_address(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_store(url)


def test_an_endpoint_is_a_url() -> None:
    with pytest.raises(UsageError, match="no http or https URL"):
        open_store("s3://b", StoreSettings(endpoint="localhost:9000"))


def test_folders_by_path_and_by_url(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "1.json").write_bytes(b"{}")
    for url in (str(folder), folder.as_uri()):
        assert get(open_store(url), "metadata/1.json") == b"{}"
    with pytest.raises(StoreError, match="does not exist"):
        open_store(str(tmp_path / "none"))
    with pytest.raises(StoreError, match="is a file"):
        open_store(str(folder / "metadata" / "1.json"))
    assert open_store(str(tmp_path / "made"), create=True)
    assert (tmp_path / "made").is_dir()


def test_a_name_cannot_lead_out_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in").mkdir()
    with pytest.raises(StoreError):
        get(open_store(str(tmp_path / "in")), "../secret")
