import http.client
import json
import socket
from typing import Any

import pytest

from bintally.cloud.local.server import bind
from bintally.errors import UsageError
from tests.cloud.local.running import Cloud


def ask(cloud: Cloud, body: bytes = b"{}", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(cloud.url.removeprefix("http://"), timeout=60)
    try:
        connection.request("POST", "/", body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


def test_plain_http(cloud: Cloud) -> None:
    status, body = ask(cloud, X_Amz_Target="SageMaker.ListModels")
    assert (status, list(body)[:1]) == (200, ["Models"])
    status, body = ask(cloud, b'{"MaxResults": "many"}', X_Amz_Target="SageMaker.ListModels")
    assert (status, body["__type"]) == (400, "SerializationException")
    status, body = ask(cloud, X_Amz_Target="SageMaker.MakeCoffee")
    assert (status, body["__type"]) == (404, "UnknownOperationException")
    assert ask(cloud)[0] == 404


def test_only_from_here_and_by_a_name_of_here(cloud: Cloud) -> None:
    for host in ("evil.example", "evil.example:8771", "10.0.0.1", ""):
        assert ask(cloud, X_Amz_Target="SageMaker.ListModels", Host=host)[0] == 403, host
    for host in ("localhost:8771", "127.0.0.1", "[::1]:8771", "api.localhost"):
        assert ask(cloud, X_Amz_Target="SageMaker.ListModels", Host=host)[0] == 200, host


def test_bodies_have_an_end(cloud: Cloud) -> None:
    assert ask(cloud, b" " * (17 << 20), X_Amz_Target="SageMaker.ListModels")[0] == 413


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1"):
            bind(taken.getsockname()[1])
