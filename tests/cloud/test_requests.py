import re
from dataclasses import replace

import pytest

from bintally.cloud.metrics import METRICS, metric_line
from bintally.cloud.options import TAG, CloudSettings
from bintally.cloud.requests import (
    HostingWish,
    TrainingWish,
    batch_request,
    hosting_requests,
    scaling_requests,
    training_request,
    tuning_request,
)
from bintally.cloud.search import Varied, parameter_ranges
from bintally.cloud.shapes import check_request
from bintally.errors import SettingsError, UsageError

WISH = TrainingWish(
    channels={"data": "s3://the-bucket/bins"}, hyperparameters={"recipe": "seed", "train.epochs": "5"}
)
RATE = Varied(name="train.head_lr", low=1e-4, high=1e-1, log=True, points=(1e-4, 1e-1))
HOSTING = HostingWish(endpoint="e", model="m", config="c", model_uri="s3://the-bucket/x/model.tar.gz")


def test_a_training(settings: CloudSettings) -> None:
    made = training_request("job", WISH, settings)
    check_request("CreateTrainingJob", made)
    assert made["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://the-bucket/bins/"
    assert made["OutputDataConfig"] == {"S3OutputPath": "s3://the-bucket/bintally/jobs"}
    assert made["CheckpointConfig"] == {"S3Uri": "s3://the-bucket/bintally/checkpoints/job"}
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200}
    assert made["Tags"] == [{"Key": TAG, "Value": "bintally"}]
    assert made["HyperParameters"] == {"recipe": "seed", "train.epochs": "5"}


def test_spot_waits_longer_than_it_runs(settings: CloudSettings) -> None:
    made = training_request("job", WISH, replace(settings, spot=True, train_hours=1, spot_wait_hours=0.5))
    check_request("CreateTrainingJob", made)
    assert made["EnableManagedSpotTraining"] is True
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 5400}


def test_going_on_from_another_job(settings: CloudSettings) -> None:
    made = training_request("job", replace(WISH, checkpoints="before"), settings)
    assert made["CheckpointConfig"]["S3Uri"].endswith("/checkpoints/before")


def test_the_service_reads_what_a_training_tells(settings: CloudSettings) -> None:
    definitions = training_request("job", WISH, settings)["AlgorithmSpecification"]["MetricDefinitions"]
    assert len(definitions) == len(METRICS) <= 40
    line = metric_line({"validation:nll": 1.25, "train:loss": 3e-7})
    read = {one["Name"]: match.group(1) for one in definitions if (match := re.search(one["Regex"], line))}
    assert {name: float(value) for name, value in read.items()} == {"validation:nll": 1.25, "train:loss": 3e-7}


def test_what_is_not_set_is_named(settings: CloudSettings) -> None:
    for key in ("bucket", "role", "image_train"):
        with pytest.raises(SettingsError, match=f"BINTALLY_CLOUD_{key.upper()}"):
            training_request("job", WISH, replace(settings, **{key: ""}))


def test_data_lies_in_a_bucket() -> None:
    with pytest.raises(UsageError, match="channel data: 'bins' is no s3://"):
        TrainingWish(channels={"data": "bins"})


@pytest.mark.parametrize("strategy", ["Bayesian", "Random", "Hyperband", "Grid"])
def test_a_tuning(settings: CloudSettings, strategy: str) -> None:
    asked = replace(settings, tune_strategy=strategy, tune_seed=7, tune_objective="validation:accuracy")  # type: ignore[arg-type]
    made = tuning_request("tuning", WISH, parameter_ranges([RATE], strategy), asked)
    check_request("CreateHyperParameterTuningJob", made)
    how = made["HyperParameterTuningJobConfig"]
    assert how["HyperParameterTuningJobObjective"] == {"Type": "Maximize", "MetricName": "validation:accuracy"}
    assert how["RandomSeed"] == 7
    assert ("MaxNumberOfTrainingJobs" in how["ResourceLimits"]) == (strategy != "Grid")
    assert how.get("StrategyConfig") == (
        {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 5}} if strategy == "Hyperband" else None
    )
    assert "CheckpointConfig" not in made["TrainingJobDefinition"]
    assert made["TrainingJobDefinition"]["StaticHyperParameters"] == WISH.hyperparameters


def test_a_tuning_that_cannot_be(settings: CloudSettings) -> None:
    ranges = parameter_ranges([RATE], "Hyperband")
    fixed = TrainingWish(channels=WISH.channels, hyperparameters={"train.head_lr": "0.1"})
    with pytest.raises(SettingsError, match=r"train.head_lr varies in the search space and is also set"):
        tuning_request("t", fixed, ranges, settings)
    with pytest.raises(SettingsError, match="known are validation:accuracy"):
        tuning_request("t", WISH, ranges, replace(settings, tune_objective="loss"))
    band = replace(settings, tune_strategy="Hyperband")
    with pytest.raises(SettingsError, match="leave it Off"):
        tuning_request("t", WISH, ranges, replace(band, tune_early_stopping="Auto"))
    with pytest.raises(SettingsError, match=r"--set train.epochs"):
        tuning_request("t", replace(WISH, hyperparameters={}), ranges, band)


def test_an_endpoint_with_machines(settings: CloudSettings) -> None:
    plan = hosting_requests(HOSTING, replace(settings, serve_instances=2))
    assert [operation for operation, _ in plan] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]
    for operation, request in plan:
        check_request(operation, request)
        assert request["Tags"] == [{"Key": TAG, "Value": "bintally"}]
    variant = plan[1][1]["ProductionVariants"][0]
    assert (variant["InitialInstanceCount"], variant["InstanceType"]) == (2, "ml.c5.large")
    assert "Environment" not in plan[0][1]["PrimaryContainer"]
    assert scaling_requests(HOSTING, settings) == []


def test_an_endpoint_without_machines(settings: CloudSettings) -> None:
    plan = hosting_requests(replace(HOSTING, serverless=True), settings)
    for operation, request in plan:
        check_request(operation, request)
    assert plan[1][1]["ProductionVariants"][0]["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 5}
    assert plan[0][1]["PrimaryContainer"]["Environment"] == {"BINTALLY_SERVE_MAX_BODY_MB": "4"}


def test_autoscaling(settings: CloudSettings) -> None:
    wish = replace(HOSTING, scale=(2, 4))
    assert hosting_requests(wish, settings)[1][1]["ProductionVariants"][0]["InitialInstanceCount"] == 2
    plan = scaling_requests(wish, settings)
    for operation, request in plan:
        check_request(operation, request)
    assert plan[0][1]["ResourceId"] == "endpoint/e/variant/AllTraffic"
    assert (plan[0][1]["MinCapacity"], plan[0][1]["MaxCapacity"]) == (2, 4)
    for scale, serverless in (((3, 1), False), ((0, 1), False), ((1, 2), True)):
        with pytest.raises(UsageError):
            replace(HOSTING, scale=scale, serverless=serverless)


def test_a_batch(settings: CloudSettings) -> None:
    made = batch_request("b", "m", "s3://the-bucket/photos", "s3://the-bucket/out/", settings)
    check_request("CreateTransformJob", made)
    assert made["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://the-bucket/photos/"
    assert made["TransformOutput"]["S3OutputPath"] == "s3://the-bucket/out/"
    assert "MaxConcurrentTransforms" not in made
    some = batch_request("b", "m", "s3://x/y", "s3://x/z", replace(settings, batch_concurrency=3))
    assert some["MaxConcurrentTransforms"] == 3
    with pytest.raises(UsageError, match="'photos' is no s3://"):
        batch_request("b", "m", "photos", "s3://x/y", settings)


def test_a_model_is_an_archive_in_a_bucket(settings: CloudSettings) -> None:
    with pytest.raises(UsageError, match=r"is no s3://…/model.tar.gz"):
        hosting_requests(replace(HOSTING, model_uri="s3://the-bucket/model"), settings)
