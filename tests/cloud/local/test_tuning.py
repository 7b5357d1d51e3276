import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.local.running import DONE, METRICS, ROLE, Cloud, unique, wait_for

CONTINUOUS = [{"Name": "x", "MinValue": "0", "MaxValue": "1", "ScalingType": "Linear"}]


def request(name: str, **config: Any) -> dict[str, Any]:
    static = config.pop("static", {})
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "validation:accuracy"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": CONTINUOUS},
            "RandomSeed": 7,
            **config,
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": static,
            "AlgorithmSpecification": {
                "TrainingImage": "image:1",
                "TrainingInputMode": "File",
                "MetricDefinitions": METRICS,
            },
            "RoleArn": ROLE,
            "OutputDataConfig": {"S3OutputPath": "s3://bintally/tuned"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        },
        "Tags": [{"Key": "bintally:project", "Value": "tests"}],
    }


def tune(cloud: Cloud, **config: Any) -> str:
    name = unique("tuning")
    cloud.sagemaker.create_hyper_parameter_tuning_job(**request(name, **config))
    return name


def ended(cloud: Cloud, name: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(
        lambda: cloud.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name),
        lambda one: one["HyperParameterTuningJobStatus"] in DONE,
    )
    return found


def trainings(cloud: Cloud, name: str, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name, MaxResults=100, **more
    )["TrainingJobSummaries"]
    return found


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_the_best_of_some(cloud: Cloud, strategy: str) -> None:
    name = tune(cloud, Strategy=strategy, static={"epochs": "2"})
    job = ended(cloud, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    rows = trainings(cloud, name, SortBy="FinalObjectiveMetricValue", SortOrder="Descending")
    assert len(rows) == 4
    values = [one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in rows]
    assert values == sorted(values, reverse=True)
    # The stand-in's score is highest at x = 0.3, with 1 after two epochs.
    xs = [float(one["TunedHyperParameters"]["x"]) for one in rows]
    assert values == pytest.approx([1 - (x - 0.3) ** 2 for x in xs])
    assert len(set(xs)) == 4
    assert job["BestTrainingJob"]["TrainingJobName"] == rows[0]["TrainingJobName"]
    assert job["TrainingJobStatusCounters"]["Completed"] == job["ObjectiveStatusCounters"]["Succeeded"] == 4
    training = cloud.sagemaker.describe_training_job(TrainingJobName=rows[0]["TrainingJobName"])
    assert training["TuningJobArn"] == job["HyperParameterTuningJobArn"]
    assert training["HyperParameters"] == {
        "epochs": "2",
        "x": rows[0]["TunedHyperParameters"]["x"],
        "_tuning_objective_metric": "validation:accuracy",
    }
    tags = cloud.sagemaker.list_tags(ResourceArn=training["TrainingJobArn"])["Tags"]
    assert tags == [{"Key": "bintally:project", "Value": "tests"}]
    assert cloud.keys(f"tuned/{rows[0]['TrainingJobName']}/output/model")
    listed = cloud.sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]
    assert [(one["Strategy"], one["TrainingJobStatusCounters"]["Completed"]) for one in listed] == [(strategy, 4)]


def test_every_point_of_a_grid(cloud: Cloud) -> None:
    ranges = [{"Name": "x", "Values": ["0", "0.3"]}, {"Name": "epochs", "Values": ["1", "2"]}]
    name = tune(
        cloud,
        Strategy="Grid",
        ResourceLimits={"MaxParallelTrainingJobs": 4},
        ParameterRanges={"CategoricalParameterRanges": ranges},
    )
    job = ended(cloud, name)
    tuned = [one["TunedHyperParameters"] for one in trainings(cloud, name)]
    assert tuned == [{"x": x, "epochs": epochs} for x in ("0", "0.3") for epochs in ("1", "2")]
    assert job["BestTrainingJob"]["TunedHyperParameters"] == {"x": "0.3", "epochs": "2"}


def test_hyperband_ends_what_falls_behind(cloud: Cloud) -> None:
    name = tune(
        cloud,
        Strategy="Hyperband",
        StrategyConfig={"HyperbandStrategyConfig": {"MinResource": 2, "MaxResource": 5}},
        ResourceLimits={"MaxNumberOfTrainingJobs": 4, "MaxParallelTrainingJobs": 4},
        static={"epochs": "200", "seconds": "0.4"},
    )
    job = ended(cloud, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    # Every one ends early: behind at a rung, or at the most that it may use.
    assert job["TrainingJobStatusCounters"]["Stopped"] == 4
    rows = trainings(cloud, name)
    assert all("FinalHyperParameterTuningJobObjectiveMetric" in one for one in rows)


def in_turn(*trainings: dict[str, str]) -> dict[str, Any]:
    """The configuration of a tuning that makes these trainings, one after the other."""
    values = [json.dumps(one) for one in trainings]
    return {
        "Strategy": "Grid",
        "ResourceLimits": {"MaxParallelTrainingJobs": 1},
        "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "as", "Values": values}]},
    }


def test_early_stopping_ends_what_is_worse_than_the_median(cloud: Cloud) -> None:
    good = [{"x": x, "epochs": "60"} for x in ("0.3", "0.4", "0.5")]
    bad = {"x": "9", "epochs": "60", "seconds": "2"}
    name = tune(cloud, TrainingJobEarlyStoppingType="Auto", **in_turn(*good, bad))
    job = ended(cloud, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    assert job["HyperParameterTuningJobConfig"]["TrainingJobEarlyStoppingType"] == "Auto"
    rows = trainings(cloud, name)
    assert [one["TrainingJobStatus"] for one in rows] == ["Completed", "Completed", "Completed", "Stopped"]
    assert json.loads(rows[3]["TunedHyperParameters"]["as"]) == bad
    assert rows[3]["ObjectiveStatus"] == "Succeeded"  # what it had told until then counts
    told = cloud.lines("/aws/sagemaker/TrainingJobs", f"{rows[3]['TrainingJobName']}/")
    assert 2 <= sum("validation:accuracy" in line for line in told) < 60
    assert job["BestTrainingJob"]["TrainingJobName"] == rows[0]["TrainingJobName"]


@pytest.mark.slow
def test_a_tuning_goes_on_after_a_restart(made: Callable[..., Cloud]) -> None:
    first = made()
    way = [{"x": "0"}, {"x": "0.1", "seconds": "600"}, {"x": "0.3"}, {"x": "0.2"}]
    name, other = tune(first, **in_turn(*way)), tune(first, static={"seconds": "600"})
    rows = wait_for(lambda: trainings(first, name), lambda rows: len(rows) == 2)
    wait_for(lambda: first.told(rows[1]["TrainingJobName"]), bool)
    first.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=other)
    first.stop()

    again = made()
    assert ended(again, other)["HyperParameterTuningJobStatus"] == "Stopped"
    job = ended(again, name)
    assert job["HyperParameterTuningJobStatus"] == "Completed", job
    rows = trainings(again, name)
    # None is made twice, none is left out; the one that ran has failed, and says why.
    assert [json.loads(one["TunedHyperParameters"]["as"]) for one in rows] == way
    assert [one["TrainingJobStatus"] for one in rows] == ["Completed", "Failed", "Completed", "Completed"]
    assert "the service on this machine ended while the job ran" in rows[1]["FailureReason"]
    assert job["BestTrainingJob"]["TrainingJobName"] == rows[2]["TrainingJobName"]
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 1


def test_trainings_side_by_side_share_the_cores(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("bintally.cloud.local.running.num_cores", lambda: 9)

    def threads(name: str) -> str | None:
        assert cloud.trained(name)["TrainingJobStatus"] == "Completed"
        base = "tuned" if name.startswith("tuning") else "out"
        seen = cloud.archive(f"s3://bintally/{base}/{name}/output/output.tar.gz")["seen-algo-1.json"]
        told: str | None = json.loads(seen)["environ"].get("OMP_NUM_THREADS")
        return told

    name = tune(cloud, ResourceLimits={"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2})
    ended(cloud, name)
    assert [threads(one["TrainingJobName"]) for one in trainings(cloud, name)] == ["4", "4"]
    assert threads(cloud.train(hosts=3)) == "3"
    assert threads(cloud.train()) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # whoever starts the service knows better
    assert threads(cloud.train(hosts=2)) == "7"


def test_stopped(cloud: Cloud) -> None:
    name = tune(cloud, static={"epochs": "10", "seconds": "60"})
    wait_for(lambda: trainings(cloud, name, StatusEquals="InProgress"), lambda rows: len(rows) == 2)
    cloud.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    job = ended(cloud, name)
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert len(trainings(cloud, name)) == job["TrainingJobStatusCounters"]["Stopped"] == 2
    cloud.sagemaker.delete_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    with pytest.raises(cloud.sagemaker.exceptions.ResourceNotFound, match="can't find a tuning job"):
        cloud.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def test_all_failed(cloud: Cloud) -> None:
    name = tune(cloud, static={"fail_on": "algo-1", "reason": "no"})
    job = ended(cloud, name)
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "All training jobs failed" in job["FailureReason"]
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == job["ObjectiveStatusCounters"]["Failed"] == 4


def test_good_enough(cloud: Cloud) -> None:
    name = tune(
        cloud,
        static={"epochs": "1"},
        ResourceLimits={"MaxNumberOfTrainingJobs": 50, "MaxParallelTrainingJobs": 1},
        TuningJobCompletionCriteria={"TargetObjectiveMetricValue": 0.0},
    )
    assert ended(cloud, name)["HyperParameterTuningJobStatus"] == "Completed"
    assert len(trainings(cloud, name)) < 10


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"Strategy": "Grid"}, "categorical parameters only"),
        ({"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"}}, "none of the MetricDefin"),
        ({"ResourceLimits": {"MaxParallelTrainingJobs": 2}}, "MaxNumberOfTrainingJobs is needed"),
        ({"ParameterRanges": {}}, "nothing that varies"),
        ({"static": {"x": "1"}}, "both static and in ParameterRanges"),
        ({"Strategy": "Hyperband", "TrainingJobEarlyStoppingType": "Auto"}, "Off with Hyperband"),
    ],
)
def test_what_cannot_be_is_refused(cloud: Cloud, config: dict[str, Any], says: str) -> None:
    with pytest.raises(ClientError, match=says):
        tune(cloud, **config)
