"""The server's OpenAPI description, exact enough to be tested against."""

from typing import Any

from bintally import __version__
from bintally.serve.options import ServeSettings

_TEXT: dict[str, Any] = {"type": "string"}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_MS: dict[str, Any] = {"type": "number", "minimum": 0}
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}


def _object(title: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "description": title, "properties": properties, "required": list(properties)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_TIMINGS = _object("Where the time went, in milliseconds.", queue=_MS, decode=_MS, infer=_MS)
_ANSWER = _object(
    "How many items one photo shows. `probabilities[n]` is that of n items.",
    count=_COUNT,
    name={**_TEXT, "description": "The count as it is written; a plus means “or more”."},
    open_ended={"type": "boolean", "description": "Whether the last of `probabilities` means “that many or more”."},
    probability=_SHARE,
    probabilities={"type": "array", "items": _SHARE, "minItems": 1},
    expected={"type": "number", "minimum": 0},
    range=_object(
        "The shortest run of counts that holds `level`.", low=_COUNT, high=_COUNT, level=_SHARE, name=_TEXT
    ),
    model_id=_TEXT,
    timings_ms=_TIMINGS,
)
_UNREADABLE = _object("A photo that cannot be read.", error=_TEXT, model_id=_TEXT, timings_ms=_TIMINGS)
_REFUSAL = _object("Why there is no answer.", error=_TEXT, request_id=_TEXT)

_WHY = {
    400: "the body cannot be taken apart",
    401: "the bearer token is missing or wrong",
    405: "another method is meant",
    406: "the client takes neither JSON nor JSON lines",
    408: "the body came too slowly",
    413: "the body is too large, or holds too many photos",
    415: "the body's type is not taken",
    422: "what was sent is no readable photo; the answer says why",
    503: "the queue is full; `Retry-After` says when to try again",
    504: "no answer within the time limit",
}


def describe(settings: ServeSettings) -> dict[str, Any]:
    """The OpenAPI 3.1 description of a server with these settings."""
    guarded: dict[str, Any] = {"security": [{"token": []}]} if settings.token else {}
    image = {kind: {"schema": _FILE} for kind in ("image/jpeg", "image/png")}
    several = {"type": "array", "minItems": 1, "maxItems": settings.max_photos}
    as_json = {
        "type": "object",
        "properties": {"photos": {**several, "items": {"type": "string", "format": "byte"}}},
        "required": ["photos"],
        "additionalProperties": False,
    }
    as_form = {
        "type": "object",
        "properties": {"photos": {**several, "items": _FILE}},
        "required": ["photos"],
        "additionalProperties": False,
    }
    answers = _object("One answer a photo, in order.", answers={"type": "array", "items": _either()})
    paths: dict[str, Any] = {
        "/invocations": {
            "post": {
                **guarded,
                "operationId": "invocations",
                "summary": "Counts one photo, or several in JSON. The hosting contract's path.",
                "description": f"At most {settings.max_body_mb:g} MB and {settings.max_photos} photos.",
                "requestBody": {"required": True, "content": {**image, "application/json": {"schema": as_json}}},
                "responses": {
                    **_counts({"anyOf": [_ref("Answer"), answers]}),
                    **_refusals(settings, 400, 406, 408, 413, 415, 422, 503, 504),
                },
            }
        },
        "/v1/count": {
            "post": {
                **guarded,
                "operationId": "count",
                "summary": "Counts several photos, sent as files of a form.",
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": as_form}}},
                "responses": {
                    **_counts(answers),
                    **_refusals(settings, 400, 406, 408, 413, 415, 422, 503, 504),
                },
            }
        },
        "/v1/explain": {
            "post": {
                **guarded,
                "operationId": "explain",
                "summary": "Counts one photo and shows where the evidence for the count lies.",
                "requestBody": {"required": True, "content": image},
                "responses": {
                    **_json(
                        "The answer, and a greyscale PNG of the model's square input (base64): white speaks for it.",
                        {"allOf": [_ref("Answer"), _object("With a heat map.", heat_png=_TEXT)]},
                    ),
                    **_refusals(settings, 400, 408, 413, 415, 422, 503, 504),
                },
            }
        },
        "/ping": {
            "get": {
                "operationId": "ping",
                "summary": "Whether the model answers.",
                "responses": {
                    **_json("It does.", _object("Ready.", status={"const": "ready"}, model_id=_TEXT)),
                    **_refusals(settings, 503),
                },
            }
        },
        "/execution-parameters": {
            "get": {
                **guarded,
                "operationId": "execution_parameters",
                "summary": "How a batch transform should send photos.",
                "responses": {
                    **_json(
                        "The parameters.",
                        _object(
                            "Batch transform's parameters.",
                            MaxConcurrentTransforms={"type": "integer", "minimum": 1},
                            BatchStrategy={"enum": ["SINGLE_RECORD", "MULTI_RECORD"]},
                            MaxPayloadInMB={"type": "integer", "minimum": 1},
                        ),
                    ),
                    **_refusals(settings),
                },
            }
        },
        "/metrics": {
            "get": {
                **guarded,
                "operationId": "metrics",
                "summary": "Figures for Prometheus.",
                "responses": {
                    "200": {"description": "The figures.", "content": {"text/plain": {"schema": _TEXT}}},
                    **_refusals(settings),
                },
            }
        },
    }
    schemas = {"Answer": _ANSWER, "Unreadable": _UNREADABLE, "Refusal": _REFUSAL}
    components: dict[str, Any] = {"schemas": schemas}
    if settings.token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bintally",
            "version": __version__,
            "description": "Counts the items in bin photos and says how sure it is.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": components,
    }


def _either() -> dict[str, Any]:
    return {"anyOf": [_ref("Answer"), _ref("Unreadable")]}


def _json(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": text, "content": {"application/json": {"schema": schema}}}}


def _counts(schema: dict[str, Any]) -> dict[str, Any]:
    lines = {"schema": {"type": "string", "description": "One answer a line."}}
    content = {"application/json": {"schema": schema}, "application/jsonlines": lines}
    return {"200": {"description": "The counts.", "content": content}}


def _refusals(settings: ServeSettings, *statuses: int) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("Refusal")}}
    found: dict[str, Any] = {}
    for status in (*((401,) if settings.token else ()), 405, *statuses):
        found[str(status)] = {"description": f"Refused: {_WHY[status]}.", "content": content}
    if "503" in found:
        found["503"] = {
            **found["503"],
            "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
        }
    return found
