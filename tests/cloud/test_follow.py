from dataclasses import replace
from typing import Any

import pytest

from bintally.cloud.follow import Clock, elapsed, follow, step_line
from bintally.cloud.jobs import ENDPOINT, TRAINING, TUNING, Step
from bintally.cloud.options import CloudSettings
from bintally.cloud.service import Service
from bintally.errors import CloudAccessError, CloudError, CloudLimitError
from tests.cloud.stand_in import Refusal, StandIn

START = 1_000_000.0
MISSING = Refusal("ValidationException", "Requested resource not found.")
BROKEN = Refusal("ServiceUnavailable", "", 503)


def training(*steps: str, status: str = "InProgress") -> dict[str, Any]:
    return {
        "TrainingJobName": "job",
        "TrainingJobStatus": status,
        "CreationTime": START,
        "SecondaryStatusTransitions": [
            {"Status": name, "StartTime": START + 60 * place, "StatusMessage": f"{name} it"}
            for place, name in enumerate(steps)
        ],
    }


def test_every_step_is_told_once(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    one = training("Starting")
    three = training("Starting", "Downloading", "Training")
    end = training("Starting", "Downloading", "Training", "Uploading", "Completed", status="Completed")
    stand_in.answers["DescribeTrainingJob"] = [one, one, three, three, end]
    heard: list[str] = []
    state = follow(service, TRAINING, "job", settings, heard.append, clock=clock)
    assert state.well
    assert heard == [
        "    0:00  Starting: Starting it",
        "    1:00  Downloading: Downloading it",
        "    2:00  Training: Training it",
        "    3:00  Uploading: Uploading it",
        "    4:00  Completed: Completed it",
    ]


def test_a_step_may_get_another_message(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    first, second = training("Starting"), training("Starting", status="Failed")
    second["SecondaryStatusTransitions"][0]["StatusMessage"] = "Insufficient capacity"
    stand_in.answers["DescribeTrainingJob"] = [first, second]
    heard: list[str] = []
    follow(service, TRAINING, "job", settings, heard.append, clock=clock)
    assert heard[-1].endswith("Starting: Insufficient capacity")


def test_what_has_no_history_is_told_when_it_changes(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    def told(status: str, **numbers: int) -> dict[str, Any]:
        return {
            "HyperParameterTuningJobName": "t",
            "HyperParameterTuningJobStatus": status,
            "CreationTime": START,
            "TrainingJobStatusCounters": numbers,
        }

    stand_in.answers["DescribeHyperParameterTuningJob"] = [
        told("InProgress", InProgress=1),
        told("InProgress", InProgress=1),
        told("InProgress", Completed=1),
        told("Completed", Completed=2),
    ]
    heard: list[str] = []
    follow(service, TUNING, "t", settings, heard.append, clock=clock)
    assert heard == [
        "    0:00  InProgress: 1 running",
        "    0:02  InProgress: 1 completed",
        "    0:03  Completed: 2 completed",
    ]


def test_an_outage_is_waited_out(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    end = training("Completed", status="Completed")
    stand_in.answers["DescribeTrainingJob"] = [training("Starting"), BROKEN, BROKEN, end]
    heard: list[str] = []
    assert follow(service, TRAINING, "job", replace(settings, attempts=2), heard.append, clock=clock).well
    assert any("trying again" in line for line in heard)
    assert "the service answers again" in heard


def test_but_not_for_ever_and_the_job_goes_on(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["DescribeTrainingJob"] = [training("Starting"), BROKEN]
    with pytest.raises(CloudError, match=r"training job goes on by itself: bintally cloud status job --follow"):
        follow(service, TRAINING, "job", replace(settings, patience_s=0), lambda _: None, clock=clock)


def test_a_refusal_ends_it(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    stand_in.answers["DescribeTrainingJob"] = [training("Starting"), Refusal("ExpiredTokenException", "", 403)]
    with pytest.raises(
        CloudAccessError, match=r"expired.*; the training job goes on.*end it: bintally cloud stop job"
    ):
        follow(service, TRAINING, "job", settings, lambda _: None, clock=clock)
    stand_in.answers["DescribeEndpoint"] = [Refusal("AccessDeniedException", "", 400)]
    with pytest.raises(CloudAccessError, match=r"the endpoint e goes on.*end it: bintally cloud destroy e"):
        follow(service, ENDPOINT, "e", settings, lambda _: None, clock=clock)


def test_a_busy_service_is_waited_for(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    busy = Refusal("ThrottlingException", "Rate exceeded")
    end = training("Completed", status="Completed")
    stand_in.answers["DescribeTrainingJob"] = [training("Starting"), busy, busy, end]
    heard: list[str] = []
    assert follow(service, TRAINING, "job", settings, heard.append, clock=clock).well
    assert any("asked to slow down 2 times" in line for line in heard)
    stand_in.answers["DescribeTrainingJob"] = [busy]
    with pytest.raises(CloudLimitError, match=r"slow down.*the training job goes on by itself"):
        follow(service, TRAINING, "job", replace(settings, patience_s=0), lambda _: None, clock=clock)


def test_what_is_not_there(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    stand_in.answers["DescribeEndpoint"] = [MISSING]
    with pytest.raises(CloudError, match="endpoint e is not there"):
        follow(service, ENDPOINT, "e", settings, lambda _: None, clock=clock)
    stand_in.answers["DescribeEndpoint"] = [{"EndpointName": "e", "EndpointStatus": "Deleting"}, MISSING]
    with pytest.raises(CloudError, match="endpoint e was removed while it was followed"):
        follow(service, ENDPOINT, "e", settings, lambda _: None, clock=clock)


def test_its_lines_are_shown_to_the_last(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["DescribeTrainingJob"] = [training("Training"), training("Training", status="Completed")]
    stand_in.answers["DescribeLogStreams"] = [{"logStreams": [{"logStreamName": "job/algo-1-1"}]}]

    def page(token: str, *lines: str) -> dict[str, Any]:
        return {"events": [{"message": line, "timestamp": 0} for line in lines], "nextForwardToken": token}

    # The second look, after the end, finds one more.
    stand_in.answers["GetLogEvents"] = [page("1", "one"), page("1"), page("1"), page("2", "two"), page("2")]
    lines: list[str] = []
    follow(service, TRAINING, "job", settings, lambda _: None, logs=lines.append, clock=clock)
    assert lines == ["one", "two"]


def test_times_as_people_read_them() -> None:
    assert [elapsed(seconds) for seconds in (0, 65, 3600, 7387.9)] == ["0:00", "1:05", "1:00:00", "2:03:07"]
    assert step_line(Step(status="Training", seconds=5)) == "    0:05  Training"
