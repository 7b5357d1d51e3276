"""How a request of the service's clients is told from its bytes, and how an answer or a refusal is written."""

import base64
import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

TARGETS = {
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "AnyScaleFrontendService": "application-autoscaling",
}
"""The first word of X-Amz-Target → the service's name in botocore."""

_STS = "https://sts.amazonaws.com/doc/2011-06-15/"
_JSON = "application/x-amz-json-1.1"


class ServiceError(Exception):
    """A refusal as the service words it.

    Attributes:
        code: its name on the wire, such as "ValidationException".
        status: the HTTP status.
        fields: further members of the refusal, for those that have some.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 400, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.fields = dict(fields or {})


def validation(message: str) -> ServiceError:
    """The refusal that most of the service's own checks end in."""
    return ServiceError("ValidationException", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, not checked yet.

    Attributes:
        service: botocore's name of the service.
        operation: such as "CreateTrainingJob".
        body: its members as JSON has them; the raw bytes where the operation takes a payload.
        headers: lower-case name → value.
        name: the endpoint's name, for the runtime's operations.
    """

    service: str
    operation: str
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)


def read_call(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Tells which operation of which service a request means, by any of the protocols that they speak.

    Args:
        method: of HTTP.
        path: without its query.
        headers: lower-case name → value.
        body: as it came.

    Raises:
        ServiceError: it is none of them, or no JSON where JSON belongs.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "endpoints" and len(parts) == 3:
        if method == "POST" and parts[2] == "invocations":
            return Call(
                service="sagemaker-runtime",
                operation="InvokeEndpoint",
                body=body,
                headers=headers,
                name=unquote(parts[1]),
            )
        raise _unknown(f"{method} {path}")
    target = headers.get("x-amz-target", "")
    if target:
        prefix, _, operation = target.partition(".")
        if method != "POST" or prefix not in TARGETS or not operation:
            raise _unknown(target)
        return Call(service=TARGETS[prefix], operation=operation, body=_read_json(body), headers=headers)
    if method == "POST" and headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        return Call(service="sts", operation=form.get("Action", ""), body=form, headers=headers)
    raise _unknown(f"{method} {path}")


def write_answer(call: Call, value: Any) -> Answer:
    """The answer to a call, in the protocol it came by."""
    if isinstance(value, Answer):
        return value
    if call.service == "sts":
        inner = "".join(f"<{name}>{escape(str(one))}</{name}>" for name, one in value.items())
        name = call.operation
        text = f'<{name}Response xmlns="{_STS}"><{name}Result>{inner}</{name}Result>{_metadata()}</{name}Response>'
        return Answer(status=200, body=text.encode(), content_type="text/xml")
    # An operation without members in its answer answers with no body at all.
    body = b"" if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return Answer(status=200, body=body, content_type=_JSON, headers=_identity())


def write_refusal(service: str, error: ServiceError) -> Answer:
    """A refusal, in the protocol of the service that it came to."""
    if service == "sts":
        text = (
            f'<ErrorResponse xmlns="{_STS}"><Error><Type>Sender</Type><Code>{escape(error.code)}</Code>'
            f"<Message>{escape(error.message)}</Message></Error></ErrorResponse>"
        )
        return Answer(status=error.status, body=text.encode(), content_type="text/xml")
    headers = _identity()
    if error.code.isdigit():  # what the service's gateway refuses has no name, only a status
        body = {"Message": error.message, **error.fields}
    elif service == "sagemaker-runtime":
        headers["x-amzn-errortype"] = error.code
        body = {"Message": error.message, **error.fields}
    else:
        body = {"__type": error.code, "message": error.message, **error.fields}
    return Answer(status=error.status, body=json.dumps(body).encode(), content_type=_JSON, headers=headers)


def page(
    found: list[dict[str, Any]], params: dict[str, Any], name: str, *, size: str, goes_on: str, most: int
) -> dict[str, Any]:
    """One page of a list, and the token of the next where there is one.

    Args:
        found: the whole list, in its order.
        params: the request's.
        name: of the list in the answer.
        size: the request's member that says how many to answer.
        goes_on: the member, of request and answer, that says where to go on.
        most: how many when the request does not say.

    Raises:
        ServiceError: the token is none of ours.
    """
    start = 0
    if params.get(goes_on):
        try:
            start = int(base64.urlsafe_b64decode(params[goes_on].encode()))
        except ValueError as error:
            raise ServiceError("ValidationException", f"The {goes_on} is invalid.") from error
    end = start + params.get(size, most)
    answer: dict[str, Any] = {name: found[start:end]}
    if end < len(found):
        answer[goes_on] = base64.urlsafe_b64encode(str(end).encode()).decode()
    return answer


def _unknown(what: str) -> ServiceError:
    return ServiceError("UnknownOperationException", f"no operation of the service: {what[:200]}", status=404)


def _read_json(body: bytes) -> Any:
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise ServiceError("SerializationException", "the body is no JSON") from error
    if not isinstance(value, dict):
        raise ServiceError("SerializationException", "Start of structure or map found where not expected.")
    return value


def _identity() -> dict[str, str]:
    return {"x-amzn-requestid": str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))}


def _metadata() -> str:
    return f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
