"""What a tuning job tells of its trainings: counters, the rows of its list, the best one."""

import math
from collections import Counter
from typing import Any

from bintally.cloud.local.state import Record

_ROW = (
    *("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime", "TrainingEndTime"),
    *("TrainingJobStatus", "FailureReason"),
)


def objective_of(job: Record, training: Record) -> float | None:
    """The last value of the tuning job's objective that a training told; None when there is none."""
    metric = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
    for one in training.get("FinalMetricDataList", []):
        if one["MetricName"] == metric and math.isfinite(one["Value"]):
            return float(one["Value"])
    return None


def training_row(job: Record, training: Record) -> dict[str, Any]:
    """One training in the answers of a tuning job."""
    objective = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
    value = objective_of(job, training)
    ended = training["TrainingJobStatus"] not in {"InProgress", "Stopping"}
    row = {key: training[key] for key in _ROW if key in training}
    row["TunedHyperParameters"] = training.get("_tuned", {})
    row["ObjectiveStatus"] = "Pending" if not ended else "Failed" if value is None else "Succeeded"
    if value is not None and ended:
        row["FinalHyperParameterTuningJobObjectiveMetric"] = {
            "Type": objective["Type"],
            "MetricName": objective["MetricName"],
            "Value": value,
        }
    return row


def counters(job: Record, trainings: list[Record]) -> dict[str, Any]:
    """The members of a tuning job that follow from its trainings."""
    rows = [training_row(job, one) for one in trainings]
    status, objective = (Counter(one[key] for one in rows) for key in ("TrainingJobStatus", "ObjectiveStatus"))
    found: dict[str, Any] = {
        "TrainingJobStatusCounters": {
            "Completed": status["Completed"],
            "InProgress": status["InProgress"] + status["Stopping"],
            "RetryableError": 0,
            "NonRetryableError": status["Failed"],
            "Stopped": status["Stopped"],
        },
        "ObjectiveStatusCounters": {name: objective[name] for name in ("Succeeded", "Pending", "Failed")},
        "ConsumedResources": {"RuntimeInSeconds": sum(one.get("TrainingTimeInSeconds", 0) for one in trainings)},
    }
    ended = [one for one in rows if "FinalHyperParameterTuningJobObjectiveMetric" in one]
    if ended:
        larger = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
        choose = max if larger else min
        found["BestTrainingJob"] = choose(
            ended, key=lambda one: one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
        )
    return found
