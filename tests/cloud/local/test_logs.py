from pathlib import Path
from typing import Any

import pytest

from bintally.cloud.local.logs import Logs
from bintally.cloud.local.wire import ServiceError

GROUP, STREAM = "/aws/sagemaker/TrainingJobs", "job/algo-1-17"


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    made = Logs(tmp_path)
    write = made.writer(GROUP, STREAM)
    for number in range(25):
        write(f"line {number}")
    made.add(GROUP, "other/algo-1-18", "elsewhere")
    return made


def ask(logs: Logs, operation: str, **params: Any) -> Any:
    return logs.operations()["logs", operation]({"logGroupName": GROUP, **params})


def get(logs: Logs, **params: Any) -> Any:
    return ask(logs, "GetLogEvents", logStreamName=STREAM, **params)


def messages(answer: Any) -> list[str]:
    return [one["message"] for one in answer["events"]]


def test_forward_to_the_end_and_on(logs: Logs) -> None:
    answer = get(logs, startFromHead=True, limit=10)
    found = messages(answer)
    while answer["events"]:
        answer = get(logs, nextToken=answer["nextForwardToken"], limit=10)
        found += messages(answer)
    assert found == [f"line {number}" for number in range(25)]
    assert get(logs, nextToken=answer["nextForwardToken"])["nextForwardToken"] == answer["nextForwardToken"]
    logs.add(GROUP, STREAM, "late")
    assert messages(get(logs, nextToken=answer["nextForwardToken"])) == ["late"]


def test_the_last_lines_come_without_a_token(logs: Logs) -> None:
    answer = get(logs, limit=3)
    assert messages(answer) == ["line 22", "line 23", "line 24"]
    assert messages(get(logs, limit=2, nextToken=answer["nextBackwardToken"])) == ["line 20", "line 21"]


def test_an_answer_has_its_size(logs: Logs) -> None:
    for _ in range(6):
        logs.add(GROUP, STREAM, "x" * 250_000)
    answer = get(logs, startFromHead=True)
    assert 25 < len(answer["events"]) < 31
    rest = get(logs, nextToken=answer["nextForwardToken"])
    assert len(answer["events"]) + len(rest["events"]) == 31


def test_streams(logs: Logs) -> None:
    [one] = ask(logs, "DescribeLogStreams", logStreamNamePrefix="job/")["logStreams"]
    assert one["logStreamName"] == STREAM
    assert one["firstEventTimestamp"] <= one["lastEventTimestamp"]
    newest = ask(logs, "DescribeLogStreams", orderBy="LastEventTime", descending=True, limit=1)
    assert [stream["logStreamName"] for stream in newest["logStreams"]] == ["other/algo-1-18"]
    assert newest["nextToken"]
    groups = ask(logs, "DescribeLogGroups", logGroupNamePrefix="/aws/sage")["logGroups"]
    assert [group["logGroupName"] for group in groups] == [GROUP]


def test_filtered(logs: Logs) -> None:
    found = ask(logs, "FilterLogEvents", filterPattern='"line 1"')["events"]
    assert [one["message"] for one in found] == ["line 1", *(f"line 1{number}" for number in range(10))]
    assert messages(ask(logs, "FilterLogEvents", logStreamNames=["other/algo-1-18"])) == ["elsewhere"]


def test_what_is_not_there(logs: Logs) -> None:
    with pytest.raises(ServiceError, match="The specified log stream does not exist"):
        ask(logs, "GetLogEvents", logStreamName="nothing")
    with pytest.raises(ServiceError, match="The specified log group does not exist"):
        ask(logs, "DescribeLogStreams", logGroupName="nothing")
    with pytest.raises(ServiceError, match="nextToken is invalid"):
        get(logs, nextToken="x/y")


def test_deleted(logs: Logs) -> None:
    ask(logs, "DeleteLogStream", logStreamName=STREAM)
    with pytest.raises(ServiceError, match="does not exist"):
        get(logs)
    ask(logs, "DeleteLogGroup")
    with pytest.raises(ServiceError, match="does not exist"):
        ask(logs, "DescribeLogStreams")


def test_a_torn_line_is_left_out(logs: Logs, tmp_path: Path) -> None:
    [path] = [path for path in tmp_path.rglob("*.jsonl") if "job" in path.name]
    with path.open("a") as file:
        file.write('{"timestamp": 1, "mess')
    assert len(get(logs)["events"]) == 25
    assert logs.tail(GROUP, STREAM, 1) == ["line 24"]
