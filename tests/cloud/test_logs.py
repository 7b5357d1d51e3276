from typing import Any

import pytest

from bintally.cloud.jobs import ENDPOINT, TRAINING, TUNING
from bintally.cloud.logs import Tail
from bintally.cloud.service import Service
from bintally.errors import UsageError
from tests.cloud.stand_in import Refusal, StandIn


def page(token: str, *lines: str) -> dict[str, Any]:
    return {"events": [{"message": f"{line}\n", "timestamp": 0} for line in lines], "nextForwardToken": token}


def streams(*names: str) -> dict[str, Any]:
    return {"logStreams": [{"logStreamName": name} for name in names]}


def test_lines_in_order_each_once(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["DescribeLogStreams"] = [streams("job/algo-1-1")]
    stand_in.answers["GetLogEvents"] = [page("a", "one", "two"), page("b", "three"), page("b")]
    tail = Tail(service, TRAINING, "job")
    assert list(tail.new()) == ["one", "two", "three"]
    assert stand_in.of("DescribeLogStreams")[0]["logStreamNamePrefix"] == "job/"
    stand_in.answers["GetLogEvents"] = [page("c", "four"), page("c")]
    lines: list[str] = []
    assert tail.show(lines.append) == 1
    assert lines == ["four"]
    assert [one.get("nextToken") for one in stand_in.of("GetLogEvents")] == [None, "a", "b", "b", "c"]


def test_several_machines_are_told_apart(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["DescribeLogStreams"] = [
        {**streams("job/algo-2-1"), "nextToken": "more"},
        streams("job/algo-1-1"),
    ]
    stand_in.answers["GetLogEvents"] = [page("a", "x"), page("a"), page("a", "y"), page("a")]
    assert list(Tail(service, TRAINING, "job").new()) == ["[algo-1-1] x", "[algo-2-1] y"]


def test_nothing_written_yet(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["DescribeLogStreams"] = [Refusal("ResourceNotFoundException", "no such group")]
    assert list(Tail(service, ENDPOINT, "e").new()) == []
    assert stand_in.of("DescribeLogStreams") == [{"logGroupName": "/aws/sagemaker/Endpoints/e"}]


def test_a_tuning_has_no_log(service: Service) -> None:
    with pytest.raises(UsageError, match="its trainings do"):
        Tail(service, TUNING, "t")
