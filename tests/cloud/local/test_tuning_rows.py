from typing import Any

import pytest

from bintally.cloud.local.tuning_rows import counters, objective_of, training_row


def job(kind: str = "Minimize") -> dict[str, Any]:
    return {
        "HyperParameterTuningJobConfig": {"HyperParameterTuningJobObjective": {"Type": kind, "MetricName": "nll"}}
    }


def training(name: str, status: str, value: float | None = None) -> dict[str, Any]:
    metrics = [] if value is None else [{"MetricName": "nll", "Value": value, "Timestamp": 1.0}]
    return {
        "TrainingJobName": name,
        "TrainingJobStatus": status,
        "FinalMetricDataList": metrics,
        "TrainingTimeInSeconds": 10,
        "_tuned": {"x": "1"},
    }


TRAININGS = [
    training("a", "Completed", 2.0),
    training("b", "Stopped", 1.0),
    training("c", "InProgress", 0.1),
    training("d", "Failed"),
    training("e", "Stopping", 0.2),
]


@pytest.mark.parametrize(("kind", "best"), [("Minimize", "b"), ("Maximize", "a")])
def test_the_best_of_those_that_ended(kind: str, best: str) -> None:
    found = counters(job(kind), TRAININGS)
    assert found["BestTrainingJob"]["TrainingJobName"] == best
    assert found["TrainingJobStatusCounters"] == {
        "Completed": 1,
        "InProgress": 2,
        "RetryableError": 0,
        "NonRetryableError": 1,
        "Stopped": 1,
    }
    assert found["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 2, "Failed": 1}
    assert found["ConsumedResources"] == {"RuntimeInSeconds": 50}


def test_nothing_yet() -> None:
    assert "BestTrainingJob" not in counters(job(), TRAININGS[2:4])


def test_a_row() -> None:
    row = training_row(job(), TRAININGS[0])
    assert row["FinalHyperParameterTuningJobObjectiveMetric"] == {
        "Type": "Minimize",
        "MetricName": "nll",
        "Value": 2.0,
    }
    assert row["TunedHyperParameters"] == {"x": "1"}
    assert objective_of(job(), training("x", "Completed", float("inf"))) is None
