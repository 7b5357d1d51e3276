"""The verbs of `bintally cloud` against moto's server, a second opinion on the requests: it runs nothing, but it takes,
keeps and lists what SageMaker would. Operations that it does not implement are left out."""

import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner, Result

from bintally.cli.app import app
from tests.cloud.stand_in import environment
from tests.model_folder import make_model

DATA = "s3://bintally/bins"
SETTINGS = ("--bucket", "bintally", "--role", "arn:aws:iam::123456789012:role/bintally")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def surroundings(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_", "BINTALLY_CLOUD_")):
            monkeypatch.delenv(name)
    for name, value in environment(moto).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BINTALLY_CLOUD_POLL_S", "0.05")
    boto3.Session().client("s3").create_bucket(Bucket="bintally")
    boto3.Session().client("s3").put_object(Bucket="bintally", Key="bins/1/a.jpg", Body=b"x")


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["cloud", *map(str, words)], catch_exceptions=False)


def told(*words: object) -> Any:
    return json.loads(call(*words, "--json").stdout)


def test_a_training(moto: str) -> None:
    done = told("train", DATA, *SETTINGS, "--project", "training", "--spot", "--set", "train.epochs=3")
    assert done["status"] == "Completed"
    described = boto3.Session().client("sagemaker").describe_training_job(TrainingJobName=done["name"])
    assert described["HyperParameters"] == {"recipe": "seed", "train.epochs": "3"}
    assert described["EnableManagedSpotTraining"] is True
    assert described["StoppingCondition"]["MaxWaitTimeInSeconds"] == 14_400
    assert told("status", done["name"])["model"] == described["ModelArtifacts"]["S3ModelArtifacts"]
    assert told("stop", done["name"])["status"] == "Completed"  # nothing to stop, nothing sent
    assert call("logs", done["name"]).stdout == ""
    listed = told("status", "--project", "training")
    assert [(one["sort"], one["name"]) for one in listed] == [("training", done["name"])]
    assert told("status", "--project", "another") == []
    assert call("destroy", "--project", "training", "--yes").stdout.startswith("nothing to remove")


def test_a_tuning(moto: str, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[train]\nhead_lr = { low = 1e-4, high = 1e-1, log = true }\nbatch_size = [32, 64]\n")
    words = ("tune", DATA, *SETTINGS, "--project", "tuning", "--space", space, "--no-wait")
    for more in (
        ("--strategy", "Bayesian", "--set", "cloud.tune_early_stopping=Auto"),
        ("--strategy", "Random", "--set", "cloud.tune_seed=7"),
        ("--strategy", "Hyperband", "--set", "train.epochs=9"),
        ("--strategy", "Grid"),
    ):
        name = told(*words, *more)["name"]
        described = (
            boto3.Session().client("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        )
        assert described["HyperParameterTuningJobConfig"]["Strategy"] == more[1]
    assert {one["sort"] for one in told("status", "--project", "tuning")} == {"tuning"}
    gone = told("destroy", "--project", "tuning", "--yes", "--records")
    assert [one["sort"] for one in gone["removed"]] == ["tuning"] * 4
    assert told("status", "--project", "tuning") == []


def test_what_a_training_wrote_is_read_and_brought(moto: str, tmp_path: Path) -> None:
    name = told("train", DATA, *SETTINGS, "--project", "output")["name"]
    logs, s3 = boto3.Session().client("logs"), boto3.Session().client("s3")
    where = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamName": f"{name}/algo-1-1"}
    logs.create_log_group(logGroupName=where["logGroupName"])
    logs.create_log_stream(**where)
    now = int(time.time() * 1000)
    logs.put_log_events(**where, logEvents=[{"timestamp": now + n, "message": f"line {n}"} for n in range(3)])
    assert call("logs", name).stdout.splitlines() == ["line 0", "line 1", "line 2"]
    for what in ("model", "output"):
        with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
            archive.addfile(tarfile.TarInfo(f"{what}.txt"))
        uri = boto3.Session().client("sagemaker").describe_training_job(TrainingJobName=name)["ModelArtifacts"]
        key = uri["S3ModelArtifacts"].removeprefix("s3://bintally/").replace("model.tar.gz", f"{what}.tar.gz")
        s3.upload_file(str(tmp_path / "archive.tar.gz"), "bintally", key)
    call("download", name, "--to", tmp_path / "run")
    assert (tmp_path / "run/model/model.txt").is_file()
    assert (tmp_path / "run/output/output.txt").is_file()


@pytest.mark.parametrize("kind", [("--instances", 2), ("--serverless",)])
def test_an_endpoint(moto: str, tmp_path: Path, kind: tuple[object, ...]) -> None:
    make_model(tmp_path / "model")
    made = told("deploy", tmp_path / "model", *SETTINGS, "--project", "endpoint", *kind)
    assert made["status"] == "InService"
    assert made["model"].endswith("/model.tar.gz")
    key = made["model"].removeprefix("s3://bintally/")
    assert boto3.Session().client("s3").head_object(Bucket="bintally", Key=key)["ContentLength"] > 1000
    foreign = boto3.Session().client("sagemaker")
    foreign.create_model(ModelName="foreign", PrimaryContainer={"Image": "i"}, ExecutionRoleArn=SETTINGS[-1])
    hour = told("cost", "--running", "--project", "endpoint")["lines"]
    assert [line["how"].startswith("2 × ml.c5.large") for line in hour] == ([] if "--serverless" in kind else [True])
    listed = told("status", "--project", "endpoint")
    assert [one["sort"] for one in listed] == ["endpoint", "configuration", "model"]
    gone = told("destroy", "--project", "endpoint", "--yes")
    assert [one["sort"] for one in gone["removed"]] == ["endpoint", "configuration", "model"]
    assert [one["ModelName"] for one in foreign.list_models()["Models"]] == ["foreign"]
    foreign.delete_model(ModelName="foreign")


def test_autoscaling(moto: str, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    name = told("deploy", tmp_path / "model", *SETTINGS, "--project", "scaling", "--autoscale", "1:3")["name"]
    scaling = boto3.Session().client("application-autoscaling")
    resource = f"endpoint/{name}/variant/AllTraffic"
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]
    assert [(one["MinCapacity"], one["MaxCapacity"]) for one in found] == [(1, 3)]
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)["ScalingPolicies"]
    assert policies[0]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 600
    assert len(told("destroy", "--project", "scaling", "--yes")["removed"]) == 3
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]
    assert found == []


def test_a_batch(moto: str, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    found = told("batch", tmp_path / "model", DATA, *SETTINGS, "--project", "batch", "--to", "s3://bintally/answers")
    assert found["status"] == "Completed"
    described = boto3.Session().client("sagemaker").describe_transform_job(TransformJobName=found["name"])
    assert described["TransformInput"]["ContentType"] == "image/jpeg"
    assert described["TransformOutput"]["S3OutputPath"] == "s3://bintally/answers/"
    assert boto3.Session().client("sagemaker").list_models()["Models"] == []
