from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bintally.cloud.jobs import BATCH, ENDPOINT, TRAINING, TUNING, find_state, read_state, state_of, stop
from bintally.cloud.service import Service
from bintally.errors import CloudError, CloudLimitError, JobFailedError
from tests.cloud.stand_in import Refusal, StandIn

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
MISSING = Refusal("ValidationException", "Requested resource not found.")


def training(status: str = "InProgress", **more: Any) -> dict[str, Any]:
    steps = [
        {"Status": "Starting", "StartTime": START, "StatusMessage": "Launching requested ML instances"},
        {"Status": "Training", "StartTime": START + timedelta(seconds=65), "StatusMessage": "Training image"},
    ]
    return {
        "TrainingJobName": "job",
        "TrainingJobStatus": status,
        "CreationTime": START,
        "SecondaryStatusTransitions": steps,
        **more,
    }


def test_a_training_and_its_steps() -> None:
    state = state_of(TRAINING, training())
    assert [(step.status, step.seconds) for step in state.steps] == [("Starting", 0), ("Training", 65)]
    assert not state.over
    assert state.failure is None


def test_a_good_end() -> None:
    told = {
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/model.tar.gz"},
        "FinalMetricDataList": [{"MetricName": "validation:nll", "Value": 1.25}],
    }
    state = state_of(TRAINING, training("Completed", **told))
    assert state.over
    assert state.well
    assert state.failure is None
    assert state.model_uri == "s3://b/model.tar.gz"
    assert state.metrics == {"validation:nll": 1.25}


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        (
            "AlgorithmError: no photos\n, exit code: 1",
            JobFailedError,
            "job ended as Failed: AlgorithmError: no photos",
        ),
        ("CapacityError: Unable to provision", CloudLimitError, "no free machine"),
        ("", JobFailedError, "gives no reason"),
    ],
)
def test_a_bad_end(reason: str, kind: type[Exception], words: str) -> None:
    state = state_of(TRAINING, training("Failed", FailureReason=reason))
    assert type(state.failure) is kind
    assert words in str(state.failure)
    assert "\n" not in str(state.failure)


def test_one_that_was_stopped_has_not_failed() -> None:
    state = state_of(TRAINING, training("Stopped"))
    assert state.over
    assert not state.well
    assert state.failure is None


def test_a_tuning_tells_its_trainings() -> None:
    best = {
        "TrainingJobName": "t-001",
        "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "validation:nll", "Value": 1.31234},
    }
    told = {
        "HyperParameterTuningJobName": "t",
        "HyperParameterTuningJobStatus": "InProgress",
        "CreationTime": START,
        "TrainingJobStatusCounters": {"InProgress": 2, "Completed": 1, "NonRetryableError": 1, "RetryableError": 0},
        "BestTrainingJob": best,
    }
    state = state_of(TUNING, told)
    assert state.steps[0].message == "2 running, 1 completed, 1 failed; best validation:nll 1.312 (t-001)"
    assert state_of(TUNING, {**told, "BestTrainingJob": {}, "TrainingJobStatusCounters": {}}).steps[0].message == (
        "none started yet"
    )


def test_an_endpoint() -> None:
    told = {"EndpointName": "e", "EndpointStatus": "Creating", "CreationTime": START}
    assert not state_of(ENDPOINT, told).over
    assert state_of(ENDPOINT, {**told, "EndpointStatus": "InService"}).well
    assert state_of(ENDPOINT, {**told, "EndpointStatus": "Failed", "FailureReason": "no ping"}).failure


def test_finding_by_name_whatever_the_kind(stand_in: StandIn, service: Service) -> None:
    stand_in.answers |= {"DescribeTrainingJob": [MISSING], "DescribeHyperParameterTuningJob": [MISSING]}
    stand_in.answers["DescribeTransformJob"] = [{"TransformJobName": "b", "TransformJobStatus": "InProgress"}]
    assert find_state(service, "b").kind is BATCH
    stand_in.answers["DescribeTransformJob"] = [MISSING]
    stand_in.answers["DescribeEndpoint"] = [MISSING]
    with pytest.raises(CloudError, match="no training, no tuning, no batch, no endpoint is called 'b' in us-east-1"):
        find_state(service, "b")
    assert read_state(service, TRAINING, "b") is None


def test_stopping(stand_in: StandIn, service: Service) -> None:
    assert stop(service, state_of(TRAINING, training()))
    assert stand_in.of("StopTrainingJob") == [{"TrainingJobName": "job"}]
    assert not stop(service, state_of(TRAINING, training("Completed")))
    assert not stop(service, state_of(TRAINING, training("Stopping")))
    assert len(stand_in.calls) == 1
