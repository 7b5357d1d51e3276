"""What the service's own model says of a request: which fields there are, of what kind, and between what limits.

botocore ships that model and itself checks little of it (no patterns, no listed values, no upper limits). Here all of
it is held against a request before anything is sent, so that a mistake costs a line and not a half-made endpoint.
"""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import botocore
import botocore.session

from bintally.errors import SettingsError, UsageError

Request = dict[str, Any]

SERVICES = {
    "DescribeScalableTargets": "application-autoscaling",
    "DeregisterScalableTarget": "application-autoscaling",
    "DescribeLogStreams": "logs",
    "GetLogEvents": "logs",
    "RegisterScalableTarget": "application-autoscaling",
    "PutScalingPolicy": "application-autoscaling",
}
"""The service of an operation, where it is not "sagemaker"."""

NAMING = ("Key", "VariantName", "ChannelName", "Name", "ContainerHostname")
"""The fields by which an entry of a list of tables is known; see `merge`."""


@functools.cache
def service_model(service: str) -> Mapping[str, Any]:
    """The model of one service, as botocore ships it: operations and shapes."""
    found: Mapping[str, Any] = (
        botocore.session.get_session().get_component("data_loader").load_service_model(service, "service-2")
    )
    return found


def check_request(operation: str, request: Mapping[str, Any]) -> None:
    """Holds a request against the service's model.

    Raises:
        SettingsError: it does not fit; the message lists every mistake by its path.
    """
    problems = list(_problems_of(operation, request))
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise SettingsError(f"{operation}: {'; '.join(problems[:5])}{more}")


def check_operation(operation: str) -> None:
    """Raises SettingsError when the service has no such operation."""
    operations = service_model(SERVICES.get(operation, "sagemaker"))["operations"]
    if operation not in operations:
        raise SettingsError(f"the service has no operation {operation!r}{_hint(operation, list(operations))}")


def _problems_of(operation: str, request: Mapping[str, Any]) -> Iterator[str]:
    check_operation(operation)
    model = service_model(SERVICES.get(operation, "sagemaker"))
    shape = model["operations"][operation]["input"]["shape"]
    yield from _problems(model["shapes"], shape, request, "")


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "structure": ((Mapping,), "a table"),
    "map": ((Mapping,), "a table"),
    "list": ((list, tuple), "a list"),
    "string": ((str,), "text"),
    "integer": ((int,), "a whole number"),
    "long": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
}


def _problems(shapes: Mapping[str, Any], name: str, value: Any, path: str) -> Iterator[str]:
    shape = shapes[name]
    kind = shape["type"]
    where = path or "the request"
    if kind in _KINDS:
        kinds, called = _KINDS[kind]
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind != "boolean"):
            yield f"{where} is {called}, not {value!r}"
            return
    if kind == "structure":
        members = shape["members"]
        for key in shape.get("required", ()):
            if key not in value:
                yield f"{_join(path, key)} is missing"
        for key, one in value.items():
            if key in members:
                yield from _problems(shapes, members[key]["shape"], one, _join(path, key))
            else:
                yield f"{where} has no field {key!r}{_hint(key, list(members))}"
    elif kind == "map":
        yield from _between(shape, len(value), where, " entries")
        for key, one in value.items():
            yield from _problems(shapes, shape["key"]["shape"], key, _join(path, key))
            yield from _problems(shapes, shape["value"]["shape"], one, _join(path, key))
    elif kind == "list":
        yield from _between(shape, len(value), where, " entries")
        for place, one in enumerate(value):
            yield from _problems(shapes, shape["member"]["shape"], one, f"{path}[{place}]")
    elif kind == "string":
        yield from _text(shape, value, where)
    elif kind in {"integer", "long", "float", "double"}:
        yield from _between(shape, value, where, "")


def _text(shape: Mapping[str, Any], value: str, where: str) -> Iterator[str]:
    if "enum" in shape:
        if value not in shape["enum"]:
            newer = (
                f"; a newer one needs a newer boto3 than {botocore.__version__}" if len(shape["enum"]) > 20 else ""
            )
            yield f"{where} is none of the service's values: {value!r}{_hint(value, list(shape['enum']))}{newer}"
        return
    yield from _between(shape, len(value), where, " characters")
    pattern = _pattern(shape.get("pattern", ""))
    if pattern and not pattern.fullmatch(value):
        yield f"{where} = {value!r} does not look like {shape['pattern']}"


@functools.cache
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text, re.DOTALL) if text else None
    except re.error:
        return None  # Java's classes (\p{L}), which Python has not: the service checks these itself


def _between(shape: Mapping[str, Any], figure: float, where: str, unit: str) -> Iterator[str]:
    if "min" in shape and figure < shape["min"]:
        yield f"{where}: {figure}{unit}, at least {shape['min']} are asked for"
    if "max" in shape and figure > shape["max"]:
        yield f"{where}: {figure}{unit}, at most {shape['max']} are allowed"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if len(known) <= 20 else ""


def merge(request: Mapping[str, Any], extra: Mapping[str, Any]) -> Request:
    """A request with further fields, such as those of a settings file.

    Tables are merged key by key. A list of tables is merged entry by entry: an entry that has a name (its `Key`,
    `VariantName`, `ChannelName` …) goes into the entry of that name or is added; one without goes into the entry at the
    same place. Any other value takes the place of what was there.

    Raises:
        UsageError: the extra fields would change the tag by which bintally knows its own.
    """
    merged: Request = _merged(request, extra)
    for tag in request.get("Tags", ()):
        if not isinstance(merged["Tags"], list) or tag not in merged["Tags"]:
            raise UsageError(f"Tags: {tag['Key']} is bintally's own mark and stays as it is; add others beside it")
    return merged


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{key: _merged(old[key], one) if key in old else one for key, one in new.items()}}
    if _is_tables(old) and _is_tables(new):
        return _merged_tables(old, new)
    return new


def _merged_tables(old: list[Any], new: list[Any]) -> list[Any]:
    made = list(old)
    for place, one in enumerate(new):
        field = next((name for name in NAMING if name in one), None)
        if field:
            place = next((k for k, other in enumerate(made) if other.get(field) == one[field]), len(made))
        if place < len(made):
            made[place] = _merged(made[place], one)
        else:
            made.append(one)
    return made


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
