"""The HTTP interface: routes, limits, answers. An ASGI application around a crew that counts."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bintally.counts import CountDistribution, Unreadable
from bintally.serve import pages
from bintally.serve.crew import Counted, Crew
from bintally.serve.intake import (
    IMAGES,
    LINES,
    GoneError,
    Intake,
    Receive,
    RefusedError,
    Scope,
    check_token,
    media_type,
    wants_lines,
)
from bintally.serve.logs import request_id, tell
from bintally.serve.metrics import CONTENT_TYPE, Metrics
from bintally.serve.openapi import describe
from bintally.serve.options import ServeSettings
from bintally.serve.slots import Slots

Send = Callable[[Any], Awaitable[None]]
LEVEL = 0.9
"""How much of the probability the answered range holds."""

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    """What came, as far as a route needs it."""

    path: str
    headers: dict[bytes, bytes]
    receive: Receive
    gone: Callable[[], bool]


Handler = Callable[[Request], Awaitable[Reply]]


class App:
    """The ASGI application of one process."""

    def __init__(self, settings: ServeSettings, crew: Crew, slots: Slots, metrics: Metrics) -> None:
        self._settings, self._crew, self._slots, self._metrics = settings, crew, slots, metrics
        self._intake = Intake(settings)
        self._description = describe(settings)
        self._refused, self._told = 0, 0.0
        # Every path: its method, its handler, whether it stays open when there is a token.
        self._routes: dict[str, tuple[str, Handler, bool]] = {
            "/ping": ("GET", self._ping, True),
            "/invocations": ("POST", self._invocations, False),
            "/execution-parameters": ("GET", self._execution_parameters, False),
            "/v1/count": ("POST", self._count_form, False),
            "/v1/explain": ("POST", self._explain, False),
            "/metrics": ("GET", self._figures, False),
            "/openapi.json": ("GET", self._openapi, True),
            "/docs": ("GET", self._docs, True),
            "/": ("GET", self._page, True),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        began = time.perf_counter()
        headers = dict(scope["headers"])
        path, method = scope["path"], scope["method"]
        given = headers.get(b"x-request-id")
        identity = request_id(given.decode("latin-1") if given is not None else None)
        gone = scope.get("extensions", {}).get("bintally.gone", bool)
        try:
            reply = await self._answer(method, Request(path, headers, receive, gone))
        except RefusedError as refusal:
            reply = _refusal(refusal, identity)
        except (GoneError, ConnectionAbortedError):
            tell("the client went away", request_id=identity, path=path[:100])
            return
        except Exception as error:  # noqa: BLE001 - the last resort of one request: told, counted, never fatal
            tell("a mistake in bintally", level=logging.ERROR, error=error, request_id=identity, path=path[:100])
            reply = _refusal(RefusedError(500, "this is a mistake in bintally; its log says more"), identity)
        await _send(send, reply, identity)
        took = time.perf_counter() - began
        self._metrics.request(path if path in self._routes else "other", reply.status, took)
        if reply.status == 503:
            self._tell_refused()
        elif path != "/ping" or reply.status != 200:
            tell(
                "request",
                request_id=identity,
                method=method,
                path=path[:100],
                status=reply.status,
                ms=round(took * 1e3, 2),
            )

    async def _answer(self, method: str, request: Request) -> Reply:
        route = self._routes.get(request.path)
        if route is None:
            raise RefusedError(404, "no such path: see /docs")
        allowed, handler, is_open = route
        if method != allowed and not (method == "HEAD" and allowed == "GET"):
            raise RefusedError(405, f"{request.path} takes {allowed}", {"allow": _allow(allowed)})
        if not is_open:
            check_token(self._settings.token, request.headers.get(b"authorization"))
        return await handler(request)

    # ------------------------------------------------------------------ counting

    async def _invocations(self, request: Request) -> Reply:
        self._check_room()
        kind = media_type(request.headers.get(b"content-type"))
        lines = wants_lines(request.headers.get(b"accept"))
        if kind in IMAGES:
            body = await self._intake.body(request.headers, request.receive)
            [counted] = await self._counted([body], request)
            if isinstance(counted.answer, Unreadable):
                raise RefusedError(422, counted.answer.reason)
            return _reply([answer_json(counted)], lines, alone=True)
        if kind == _JSON:
            photos = await self._intake.photos_in_json(await self._intake.body(request.headers, request.receive))
            return _reply([answer_json(one) for one in await self._counted(photos, request)], lines)
        raise RefusedError(415, f"send {', '.join(IMAGES)} or {_JSON}, not {kind[:60] or 'nothing'}")

    async def _count_form(self, request: Request) -> Reply:
        self._check_room()
        content_type = request.headers.get(b"content-type", b"")
        if media_type(content_type) != "multipart/form-data":
            raise RefusedError(415, "send multipart/form-data with files in the field `photos`")
        lines = wants_lines(request.headers.get(b"accept"))
        body = await self._intake.body(request.headers, request.receive)
        files = await self._intake.photos_in_form(content_type.decode("latin-1"), body)
        answers = await self._counted([data for _, data in files], request)
        return _reply(
            [{"photo": name, **answer_json(one)} for (name, _), one in zip(files, answers, strict=True)], lines
        )

    async def _explain(self, request: Request) -> Reply:
        self._check_room()
        if media_type(request.headers.get(b"content-type")) not in IMAGES:
            raise RefusedError(415, f"send {' or '.join(IMAGES)}")
        body = await self._intake.body(request.headers, request.receive)
        [counted] = await self._counted([body], request, explain=True)
        if isinstance(counted.answer, Unreadable):
            raise RefusedError(422, counted.answer.reason)
        return _json({**answer_json(counted), "heat_png": counted.heat_png})

    def _check_room(self) -> None:
        # Before the body is read: whoever comes to a full house is told so at once.
        if self._slots.is_full:
            raise self._full()

    async def _counted(self, photos: list[bytes], request: Request, *, explain: bool = False) -> list[Counted]:
        # Places are taken when the body is whole, so that slow senders hold none.
        if not self._slots.take(len(photos)):
            raise self._full()
        futures = [self._crew.submit(photo, explain=explain, gone=request.gone) for photo in photos]
        try:
            async with asyncio.timeout(self._settings.time_limit_s):
                found = [await future for future in futures]
        except TimeoutError:
            raise RefusedError(504, f"no answer within {self._settings.time_limit_s:g} s") from None
        finally:
            for future in futures:
                future.cancel()
        for counted in found:
            self._metrics.photo(counted)
        return found

    def _full(self) -> RefusedError:
        retry = {"retry-after": str(self._settings.retry_after_s)}
        return RefusedError(503, "as many photos as this server takes are waiting: try again soon", retry)

    def _tell_refused(self) -> None:
        # One line a second: under a flood the log must not cost more than the answers.
        self._refused += 1
        now = time.monotonic()
        if now - self._told >= 1.0:
            tell("refused", level=logging.WARNING, status=503, requests=self._refused, waiting=self._slots.in_use)
            self._refused, self._told = 0, now

    # ------------------------------------------------------------------ the rest

    async def _ping(self, request: Request) -> Reply:
        if self._crew.busy_for() > 2 * self._settings.time_limit_s:
            raise RefusedError(503, "counting hangs: start this server again")
        return _json({"status": "ready", "model_id": self._crew.engine.model_id})

    async def _execution_parameters(self, request: Request) -> Reply:
        return _json(
            {
                "MaxConcurrentTransforms": min(self._settings.queue, 2 * self._crew.engine.concurrency + 2),
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": max(1, int(self._settings.max_body_mb)),
            }
        )

    async def _figures(self, request: Request) -> Reply:
        return Reply(200, self._metrics.text(), CONTENT_TYPE)

    async def _openapi(self, request: Request) -> Reply:
        return _json(self._description)

    async def _docs(self, request: Request) -> Reply:
        return Reply(200, *pages.docs(self._description))

    async def _page(self, request: Request) -> Reply:
        return Reply(200, *pages.front(needs_token=bool(self._settings.token)))


def answer_json(counted: Counted) -> dict[str, Any]:
    """One photo's answer as it goes out; `{"error": reason, ...}` for an unreadable one."""
    timings = {
        "queue": round(counted.queue_ms, 3),
        "decode": round(counted.decode_ms, 3),
        "infer": round(counted.infer_ms, 3),
    }
    answer = counted.answer
    if not isinstance(answer, CountDistribution):
        return {"error": answer.reason, "model_id": counted.model_id, "timings_ms": timings}
    low, high = answer.interval(LEVEL)
    return {
        "count": answer.count,
        "name": answer.name(answer.count),
        "open_ended": answer.open_mean is not None,
        "probability": round(answer.probability, 6),
        "probabilities": [round(one, 6) for one in answer.probabilities],
        "expected": round(answer.expected, 4),
        "range": {"low": low, "high": high, "level": LEVEL, "name": _range_name(answer, low, high)},
        "model_id": counted.model_id,
        "timings_ms": timings,
    }


def _range_name(answer: CountDistribution, low: int, high: int) -> str:
    return answer.name(low) if low == high else f"{low}-{answer.name(high)}"


def _allow(method: str) -> str:
    return "GET, HEAD" if method == "GET" else method


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def _reply(answers: list[dict[str, Any]], lines: bool, *, alone: bool = False) -> Reply:
    if lines:
        text = "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in answers)
        return Reply(200, text.encode(), LINES[0])
    return _json(answers[0] if alone else {"answers": answers})


def _refusal(refusal: RefusedError, identity: str) -> Reply:
    body = json.dumps({"error": refusal.reason, "request_id": identity}).encode()
    return Reply(refusal.status, body, _JSON, refusal.headers)


async def _send(send: Send, reply: Reply, identity: str) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", identity.encode()),
        (b"x-content-type-options", b"nosniff"),
        *((name.encode(), value.encode()) for name, value in reply.headers.items()),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
