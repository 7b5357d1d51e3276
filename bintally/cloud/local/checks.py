"""Whether a request fits botocore's model of the service: types, required members, enums, patterns, lengths, ranges."""

import functools
import re
from typing import Any

import botocore.loaders
import botocore.model

from bintally.cloud.local.wire import ServiceError, validation

_MOST = 10
"""Problems that one refusal names at most, as the service does."""


@functools.cache
def service_model(service: str) -> botocore.model.ServiceModel:
    """The model that botocore has of a service, such as "sagemaker"."""
    body = botocore.loaders.Loader().load_service_model(service, "service-2")
    return botocore.model.ServiceModel(body, service)


def read_params(service: str, operation: str, body: Any) -> dict[str, Any]:
    """The members of a request, checked.

    Members that the model does not know are left out, as the service does with them; so are nulls. Timestamps stay
    seconds since 1970.

    Args:
        service: botocore's name of it.
        operation: one of its operations.
        body: the request's members as JSON has them.

    Raises:
        ServiceError: the operation is unknown, a value is of another type (SerializationException), or some do not
            fit (ValidationException, which names each).
    """
    model = service_model(service)
    if operation not in model.operation_names:
        raise ServiceError("UnknownOperationException", f"{service} has no operation {operation[:100]!r}", status=404)
    shape = model.operation_model(operation).input_shape
    if shape is None:
        return {}
    problems: list[str] = []
    params: dict[str, Any] = _read(shape, body, "", problems)
    if problems:
        errors = "error" if len(problems) == 1 else "errors"
        raise validation(f"{len(problems)} validation {errors} detected: {'; '.join(problems[:_MOST])}")
    return params


def _read(shape: Any, value: Any, path: str, problems: list[str]) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return value if shape.is_document_type else _read_structure(shape, value, path, problems)
    if kind == "list":
        _need(isinstance(value, list), "a list", path)
        problems += _size_problems(shape, len(value), value, path, "length")
        return [_read(shape.member, one, f"{path}.{place}.member", problems) for place, one in enumerate(value, 1)]
    if kind == "map":
        return _read_map(shape, value, path, problems)
    if kind == "string":
        _need(isinstance(value, str), "a string", path)
        problems += [
            f"Value '{value}' at '{path}' failed to satisfy constraint: {one}" for one in _faults(shape, value)
        ]
    elif kind in {"integer", "long"}:
        _need(isinstance(value, int) and not isinstance(value, bool), "a whole number", path)
        problems += _size_problems(shape, value, value, path, "value")
    elif kind in {"float", "double"}:
        _need(isinstance(value, int | float) and not isinstance(value, bool), "a number", path)
        problems += _size_problems(shape, value, value, path, "value")
    elif kind == "timestamp":
        _need(isinstance(value, int | float) and not isinstance(value, bool), "seconds since 1970", path)
    elif kind == "boolean":
        _need(isinstance(value, bool), "true or false", path)
    return value


def _read_structure(shape: Any, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    _need(isinstance(value, dict), "a structure", path)
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        inner = _join(path, name)
        if value.get(name) is not None:
            found[name] = _read(member, value[name], inner, problems)
        elif name in shape.required_members:
            problems.append(f"Value null at '{inner}' failed to satisfy constraint: Member must not be null")
    if shape.is_tagged_union and len(found) != 1:
        problems.append(f"Value at '{path}' failed to satisfy constraint: exactly one member of a union is set")
    return found


def _read_map(shape: Any, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
    _need(isinstance(value, dict), "a map", path)
    problems += _size_problems(shape, len(value), value, path, "length")
    found: dict[str, Any] = {}
    for key, one in value.items():
        for what, inner, given in (("keys", shape.key, key), ("value", shape.value, one)):
            if inner.type_name == "string":
                _need(isinstance(given, str), "a string", f"{path}.{key}")
                if faults := _faults(inner, given):
                    problems.append(
                        f"Value at '{path}' failed to satisfy constraint: "
                        f"Map {what} must satisfy constraint: [{', '.join(faults)}]"
                    )
        found[key] = one if shape.value.type_name == "string" else _read(shape.value, one, f"{path}.{key}", problems)
    return found


def _faults(shape: Any, value: str) -> list[str]:
    """Which constraints of a string shape a value breaks, in the service's words."""
    found = []
    facts = shape.metadata
    if len(value) < facts.get("min", 0):
        found.append(f"Member must have length greater than or equal to {facts['min']}")
    if "max" in facts and len(value) > facts["max"]:
        found.append(f"Member must have length less than or equal to {facts['max']}")
    if shape.enum and value not in shape.enum:
        found.append(f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    if "pattern" in facts and not _pattern(facts["pattern"]).fullmatch(value):
        found.append(f"Member must satisfy regular expression pattern: {facts['pattern']}")
    return found


def _size_problems(shape: Any, size: float, value: Any, path: str, what: str) -> list[str]:
    shown = "" if what == "length" else f" '{value}'"
    found = []
    for bound, word, wrong in (
        ("min", "greater", "min" in shape.metadata and size < shape.metadata["min"]),
        ("max", "less", "max" in shape.metadata and size > shape.metadata["max"]),
    ):
        if wrong:
            found.append(
                f"Value{shown} at '{path}' failed to satisfy constraint: "
                f"Member must have {what} {word} than or equal to {shape.metadata[bound]}"
            )
    return found


@functools.cache
def _pattern(text: str) -> re.Pattern[str]:
    # Java's classes of Unicode, near enough: letters and numbers are \w, separators \s, the rest any visible sign.
    for java, python in (
        (r"\p{L}", r"\w"),
        (r"\p{N}", r"\w"),
        (r"\p{Alnum}", "a-zA-Z0-9"),
        (r"\p{Z}", r"\s"),
        (r"\p{M}", r"\w"),
        (r"\p{S}", r"\S"),
        (r"\p{P}", r"\S"),
    ):
        text = text.replace(java, python)
    try:
        return re.compile(text, re.DOTALL)
    except re.error:  # a pattern of Java's that Python has no words for: nothing is refused by it
        return re.compile(".*", re.DOTALL)


def _need(right: bool, what: str, path: str) -> None:
    if not right:
        raise ServiceError("SerializationException", f"{path or 'the request'} is not {what}")


def _join(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name
