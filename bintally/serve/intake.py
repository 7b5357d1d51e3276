"""From a request to the photos in it: limits on size and time, content types, base64, multipart."""

import asyncio
import base64
import binascii
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from bintally.serve.options import ServeSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

IMAGES = ("image/jpeg", "image/png")
LINES = ("application/jsonlines", "application/x-ndjson", "application/jsonl")

_SLOWEST = 32_000  # bytes a second that a body must bring once its time limit is over
_LARGE = 1 << 18  # bodies from this many bytes are taken apart on another thread


class RefusedError(Exception):
    """A request that is answered with a status and a reason instead of a count."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


class GoneError(Exception):
    """The client went away before its request was whole."""


class Intake:
    """Reads bodies for one event loop and knows how many bytes of unfinished ones are held."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._most = int(settings.max_buffered_mb * 1e6)
        self._held = 0

    async def body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """A request's body.

        Raises:
            RefusedError: it is too large (413, before it is read where its length is told), too slow (408), or bodies
                fill the memory meant for them (503).
            GoneError: the client went away.
        """
        limit = self._settings.max_body
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise self._too_large()
        loop = asyncio.get_running_loop()
        latest = loop.time() + self._settings.body_timeout_s
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout_at(latest) as timer:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise GoneError
                    part = message.get("body", b"")
                    size += len(part)
                    self._held += len(part)
                    parts.append(part)
                    if size > limit:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
                    if self._held > self._most:
                        raise RefusedError(503, "too many bodies at once", {"retry-after": "1"})
                    timer.reschedule(latest + size / _SLOWEST)
        except TimeoutError:
            raise RefusedError(408, f"the body came too slowly: {size:,} bytes so far", _CLOSE) from None
        finally:
            self._held -= size

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than {self._settings.max_body_mb:g} MB")

    async def photos_in_json(self, body: bytes) -> list[bytes]:
        """The photos of `{"photos": ["<base64>", ...]}`. Raises RefusedError (400, 413, 422)."""
        if len(body) < _LARGE:
            return _from_json(body, self._settings.max_photos)
        return await asyncio.to_thread(_from_json, body, self._settings.max_photos)

    async def photos_in_form(self, content_type: str, body: bytes) -> list[tuple[str, bytes]]:
        """Name and bytes of every file in the field `photos`. Raises RefusedError (400, 413, 422)."""
        most = self._settings.max_photos

        async def stream() -> AsyncGenerator[bytes, None]:
            yield body

        parser = _FormParser(
            Headers({"content-type": content_type}), stream(), max_files=most + 1, max_fields=16, max_part_size=4096
        )
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError, LookupError) as error:
            raise RefusedError(400, f"no multipart form: {str(error) or type(error).__name__}") from None
        found: list[tuple[str, bytes]] = []
        for name, value in form.multi_items():
            if name != "photos" or not isinstance(value, UploadFile):
                raise RefusedError(422, "a form of files in the field `photos`, and nothing else")
            found.append((value.filename or "", await value.read()))
        _check_number(len(found), most)
        return found


class _FormParser(MultiPartParser):
    spool_max_size = 1 << 40  # the body is in memory already and its size checked: nothing goes to a disk


def _from_json(body: bytes, most: int) -> list[bytes]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"not JSON: {error}") from None
    photos = value.get("photos") if isinstance(value, dict) else None
    if not isinstance(photos, list) or len(value) != 1:
        raise RefusedError(422, 'the JSON to send is {"photos": ["<base64 of a JPEG or PNG file>", ...]}')
    _check_number(len(photos), most)
    found = []
    for place, text in enumerate(photos):
        try:
            found.append(base64.b64decode(text.encode("ascii"), validate=True))
        except (AttributeError, UnicodeEncodeError, binascii.Error):
            raise RefusedError(422, f"photos[{place}] is not base64 text") from None
    return found


def _check_number(photos: int, most: int) -> None:
    if not photos:
        raise RefusedError(422, "there is no photo in `photos`")
    if photos > most:
        raise RefusedError(413, f"more than {most} photos in one request: send several requests")


def media_type(value: bytes | None) -> str:
    """The bare media type of a Content-Type, lower case, without parameters."""
    return (value or b"").split(b";", 1)[0].strip().lower().decode("latin-1")


def wants_lines(accept: bytes | None) -> bool:
    """Whether the answer goes out as JSON lines rather than JSON.

    Raises:
        RefusedError: 406, the client takes neither.
    """
    if not accept:
        return False
    offered: list[tuple[float, str]] = []
    for one in accept.decode("latin-1").lower().split(","):
        name, *parameters = (word.strip() for word in one.split(";"))
        offered.append((-_quality(parameters), name))
    for quality, name in sorted(offered, key=lambda pair: pair[0]):
        if quality < 0 and name in {"application/json", "application/*", "*/*", "*", ""}:
            return False
        if quality < 0 and name in LINES:
            return True
    raise RefusedError(406, f"answers are application/json or {LINES[0]}")


def _quality(parameters: list[str]) -> float:
    for one in parameters:
        if one.startswith("q="):
            try:
                return float(one[2:])
            except ValueError:
                return 0.0
    return 1.0


def check_token(token: str, authorization: bytes | None) -> None:
    """Lets a request pass that brings the token. Takes as long whatever it brings.

    Raises:
        RefusedError: 401.
    """
    if not token:
        return
    scheme, _, given = (authorization or b"").partition(b" ")
    same = hmac.compare_digest(given.strip(), token.encode())
    if scheme.lower() != b"bearer" or not same:
        raise RefusedError(401, "a bearer token is needed", {"www-authenticate": "Bearer"})


_CLOSE = {"connection": "close"}
