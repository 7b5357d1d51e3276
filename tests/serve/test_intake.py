"""From bodies to photos."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bintally.serve.intake import GoneError, Intake, RefusedError, check_token, media_type, wants_lines
from bintally.serve.options import ServeSettings

SETTINGS = ServeSettings(max_body_mb=0.001, max_buffered_mb=0.0015, body_timeout_s=0.1, max_photos=3)


def receiver(*parts: bytes, pause: float = 0.0, gone: bool = False) -> Callable[[], Awaitable[dict[str, Any]]]:
    left = list(parts)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        if gone and not left:
            return {"type": "http.disconnect"}
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left) or gone}

    return receive


def read(intake: Intake, receive: Any, headers: dict[bytes, bytes] | None = None) -> bytes:
    return asyncio.run(intake.body(headers or {}, receive))


def status_of(call: Callable[[], Any]) -> int:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.status


def test_bodies_come_together_from_their_parts() -> None:
    assert read(Intake(SETTINGS), receiver(b"ab", b"", b"cd")) == b"abcd"


def test_too_large_is_told_before_reading_where_the_length_is_given() -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError("was read")

    assert status_of(lambda: read(Intake(SETTINGS), never, {b"content-length": b"1001"})) == 413


def test_too_large_without_a_length_is_told_when_it_is() -> None:
    parts = [b"x" * 400] * 10
    assert status_of(lambda: read(Intake(SETTINGS), receiver(*parts))) == 413


def test_a_slow_body_is_given_up() -> None:
    assert status_of(lambda: read(Intake(SETTINGS), receiver(*[b"x"] * 100, pause=0.05))) == 408


def test_a_client_that_goes_away() -> None:
    with pytest.raises(GoneError):
        read(Intake(SETTINGS), receiver(b"x", gone=True))


def test_bodies_held_at_once_are_bounded_and_let_go() -> None:
    intake = Intake(SETTINGS)

    async def both() -> list[Any]:
        bodies = (intake.body({}, receiver(b"x" * 800, b"y", pause=0.01)) for _ in range(2))
        return await asyncio.gather(*bodies, return_exceptions=True)

    found = asyncio.run(both())
    assert sorted(type(one).__name__ for one in found) == ["RefusedError", "bytes"]
    assert len(read(intake, receiver(b"x" * 900, b"y"))) == 901


def as_json(*photos: Any) -> bytes:
    return json.dumps({"photos": list(photos)}).encode()


def test_photos_in_json() -> None:
    body = as_json(base64.b64encode(b"one").decode(), "")
    assert asyncio.run(Intake(SETTINGS).photos_in_json(body)) == [b"one", b""]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b"1" * 10_000, 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"photos": "x"}', 422),
        (b'{"photos": [], "more": 1}', 422),
        (as_json(), 422),
        (as_json("ü"), 422),
        (as_json("a"), 422),
        (as_json("file:///etc/passwd"), 422),
        (as_json(3), 422),
        (as_json(*["AAAA"] * 4), 413),
    ],
)
def test_json_that_holds_no_photos(body: bytes, status: int) -> None:
    assert status_of(lambda: asyncio.run(Intake(SETTINGS).photos_in_json(body))) == status


@given(st.binary(max_size=300))
def test_no_json_body_is_a_mistake_of_ours(body: bytes) -> None:
    try:
        asyncio.run(Intake(SETTINGS).photos_in_json(body))
    except RefusedError as refusal:
        assert 400 <= refusal.status < 500  # noqa: PT017


@given(
    st.binary(max_size=300), st.sampled_from(["", "; boundary=x", "; boundary=", '; boundary="', "; charset=nope"])
)
def test_no_form_is_a_mistake_of_ours(body: bytes, parameters: str) -> None:
    try:
        asyncio.run(Intake(SETTINGS).photos_in_form("multipart/form-data" + parameters, b"--x\r\n" + body))
    except RefusedError as refusal:
        assert 400 <= refusal.status < 500  # noqa: PT017


def test_accept_headers() -> None:
    assert not wants_lines(None)
    assert not wants_lines(b"*/*")
    assert not wants_lines(b"application/json, application/jsonlines")
    assert wants_lines(b"application/jsonlines")
    assert wants_lines(b"application/json;q=0.1, application/x-ndjson")
    assert status_of(lambda: wants_lines(b"text/html")) == 406
    assert status_of(lambda: wants_lines(b"application/json;q=0")) == 406


def test_media_types() -> None:
    assert media_type(b"Image/JPEG; q=1") == "image/jpeg"
    assert media_type(None) == ""


def test_tokens() -> None:
    check_token("", None)
    check_token("abc", b"Bearer abc")
    check_token("abc", b"bearer abc")
    for wrong in (None, b"", b"abc", b"Bearer", b"Bearer abd", b"Basic abc", b"Bearer \xff"):
        assert status_of(lambda wrong=wrong: check_token("abc", wrong)) == 401  # type: ignore[misc]
