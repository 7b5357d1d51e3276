import json
from typing import Any

import pytest

from bintally.cloud.local.wire import Call, ServiceError, page, read_call, write_answer, write_refusal

STS = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


def test_the_json_protocol_names_the_operation_in_a_header() -> None:
    for target, service in (
        ("SageMaker.CreateModel", "sagemaker"),
        ("Logs_20140328.GetLogEvents", "logs"),
        ("AnyScaleFrontendService.PutScalingPolicy", "application-autoscaling"),
    ):
        call = read_call("POST", "/", {"x-amz-target": target}, b'{"a": 1}')
        assert (call.service, call.operation, call.body) == (service, target.partition(".")[2], {"a": 1})


def test_the_runtime_names_the_endpoint_in_the_path() -> None:
    call = read_call("POST", "/endpoints/my%2Dend/invocations", {}, b"\xff\xd8")
    assert (call.service, call.operation, call.name, call.body) == (
        "sagemaker-runtime",
        "InvokeEndpoint",
        "my-end",
        b"\xff\xd8",
    )


def test_the_query_protocol_names_it_in_a_form() -> None:
    call = read_call("POST", "/", STS, b"Action=GetCallerIdentity&Version=2011-06-15")
    assert (call.service, call.operation) == ("sts", "GetCallerIdentity")
    text = write_answer(call, {"Account": "1<2"}).body.decode()
    assert "<GetCallerIdentityResult><Account>1&lt;2</Account></GetCallerIdentityResult>" in text


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("POST", "/", {}),
        ("POST", "/", {"x-amz-target": "DynamoDB_20120810.ListTables"}),
        ("POST", "/", {"x-amz-target": "SageMaker"}),
        ("GET", "/endpoints/x/invocations", {}),
        ("POST", "/endpoints/x/async-invocations", {}),
    ],
)
def test_anything_else_is_no_operation(method: str, path: str, headers: dict[str, str]) -> None:
    with pytest.raises(ServiceError) as caught:
        read_call(method, path, headers, b"")
    assert (caught.value.code, caught.value.status) == ("UnknownOperationException", 404)


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_bodies_are_json_objects(body: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        read_call("POST", "/", {"x-amz-target": "SageMaker.CreateModel"}, body)
    assert caught.value.code == "SerializationException"


def test_refusals_by_protocol() -> None:
    error = ServiceError("ModelError", "no", status=424, fields={"OriginalStatusCode": 500})
    plain = write_refusal("sagemaker", error)
    assert json.loads(plain.body) == {"__type": "ModelError", "message": "no", "OriginalStatusCode": 500}
    rest = write_refusal("sagemaker-runtime", error)
    assert rest.headers["x-amzn-errortype"] == "ModelError"
    assert json.loads(rest.body) == {"Message": "no", "OriginalStatusCode": 500}
    assert b"<Code>ModelError</Code>" in write_refusal("sts", error).body
    assert (
        "x-amzn-errortype" not in write_refusal("sagemaker-runtime", ServiceError("413", "long", status=413)).headers
    )


def test_an_answer_without_members_has_no_body() -> None:
    assert write_answer(Call(service="sagemaker", operation="DeleteModel", body={}), None).body == b""


def test_pages() -> None:
    rows = [{"n": number} for number in range(5)]
    found: list[Any] = []
    params: dict[str, Any] = {"MaxResults": 2}
    for _ in range(3):
        answer = page(rows, params, "Rows", size="MaxResults", goes_on="NextToken", most=10)
        found += answer["Rows"]
        params["NextToken"] = answer.get("NextToken")
    assert found == rows
    assert params["NextToken"] is None
    with pytest.raises(ServiceError, match="NextToken is invalid"):
        page(rows, {"NextToken": "!"}, "Rows", size="MaxResults", goes_on="NextToken", most=10)
