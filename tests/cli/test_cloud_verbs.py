"""Every verb of `bintally cloud` against the service on this machine: a stand-in trains, `bintally serve` itself serves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bintally.cli.app import app
from bintally.cloud.local.shared import Programs
from bintally.cloud.service import Service
from bintally.errors import (
    BintallyError,
    CloudAccessError,
    CloudError,
    CloudLimitError,
    JobFailedError,
    SettingsError,
    UsageError,
)
from tests.cloud.local.running import PROGRAMS, ROLE, Cloud, channel, training, unique, wait_for
from tests.cloud.opt_ml import draw_bin
from tests.model_folder import make_model

DATA = "s3://bintally/bins"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    programs = Programs(train=PROGRAMS.train)
    running = Cloud(tmp_path_factory.mktemp("cloud"), programs, quotas=("ml.p3.2xlarge=0",), healthy_s=20.0)
    running.put("bins/train/1/a.jpg")
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def surroundings(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "BINTALLY_CLOUD_")):
            monkeypatch.delenv(name)
    found = cloud.service.environment(cloud.url) | {"BINTALLY_CLOUD_POLL_S": "0.1", "BINTALLY_CLOUD_ATTEMPTS": "3"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def project() -> str:
    """Each test has a project of its own, and finds only its own things."""
    return unique("project")


def call(*words: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["cloud", *map(str, words)], catch_exceptions=False, input=answer)


def told(*words: object) -> Any:
    return json.loads(call(*words, "--json").stdout)


def train(project: str, *words: object, **hyperparameters: object) -> Any:
    raw = [word for key, value in hyperparameters.items() for word in ("--hyperparameter", f"{key}={value}")]
    return told("train", DATA, "--project", project, *raw, *words)


def started(project: str, **hyperparameters: object) -> str:
    return str(train(project, "--no-wait", **hyperparameters)["name"])


def model_folder(tmp_path: Path) -> Path:
    if not (tmp_path / "model").exists():
        make_model(tmp_path / "model")
    return tmp_path / "model"


# ---------------------------------------------------------------------------------------------------- trainings


def test_a_training_from_start_to_end(cloud: Cloud, project: str, tmp_path: Path) -> None:
    done = call(
        *("train", DATA, "--project", project, "--set", "train.epochs=3", "--watch", "--stop-on", "DeadRelu"),
        *("--hyperparameter", "epochs=2", "--to", tmp_path / "run", "--logs"),
    )
    job = done.stdout.split("training ")[1].split(":")[0]
    assert "nothing is charged" in done.stderr
    states = [line.split()[1].rstrip(":") for line in done.stderr.splitlines() if re.match(r" +\d+:\d\d  ", line)]
    assert states[0] == "Starting"
    assert states[-1] == "Completed"
    assert "Training" in states
    assert "begins at epoch 0" in done.stdout
    assert "validation:accuracy" in done.stdout
    assert (tmp_path / "run/model/shared.txt").read_text() == "algo-1"
    seen = json.loads((tmp_path / "run/output/seen-algo-1.json").read_text())
    asked = {"recipe": "seed", "train.epochs": "3", "watch": "true", "stop_on": "DeadRelu", "epochs": "2"}
    assert seen["hps"] == asked
    assert seen["files"] == ["input/data/data/train/1/a.jpg"]
    described = cloud.sagemaker.describe_training_job(TrainingJobName=job)
    tags = cloud.sagemaker.list_tags(ResourceArn=described["TrainingJobArn"])["Tags"]
    assert {"Key": "bintally:project", "Value": project} in tags
    assert described["CheckpointConfig"]["S3Uri"] == f"s3://bintally/bintally/checkpoints/{job}"

    assert job in call("status", "--project", project).stdout
    state = told("status", job)
    assert (state["status"], state["metrics"]["validation:accuracy"]) == ("Completed", pytest.approx(0.91))
    assert "about" not in call("logs", job).stdout
    assert "metrics: train:epoch=1;" in call("logs", job, "--follow").stdout
    brought = told("download", job, "--to", tmp_path / "again")["brought"]
    assert [Path(one).name for one in brought] == ["model", "output"]


def test_class_folders_a_backbone_and_a_recipe_of_ones_own(cloud: Cloud, project: str, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('[model]\nbackbone = "tiny"\n[train]\nhead_lr = 5e-3\nepochs = 2\n[pixels]\nsize = 64\n')
    cloud.put("backbones/x/config.json", "{}")
    done = told(
        *("train", "--project", project, "--recipe", recipe, "--to", tmp_path / "run"),
        *("--channel", "train=s3://bintally/bins/train", "--channel", "validation=s3://bintally/bins/train"),
        *("--backbone", "s3://bintally/backbones/x"),
    )
    assert done["status"] == "Completed"
    seen = json.loads((tmp_path / "run/output/seen-algo-1.json").read_text())
    assert set(seen["channels"]) == {"train", "validation", "backbone"}
    assert seen["hps"]["recipe"] == "seed"
    assert seen["hps"]["model.backbone"] == "tiny"
    assert seen["hps"]["train.head_lr"] == "0.005"
    assert "augment.flip" not in seen["hps"]  # the default is what seed says
    assert "train.batch_size" not in seen["hps"]  # the same in both


def test_a_training_that_fails_says_why(project: str) -> None:
    with pytest.raises(JobFailedError, match=r"ended as Failed: AlgorithmError: no photos here, exit code: 3"):
        call(
            "train",
            DATA,
            "--project",
            project,
            *("--hyperparameter", "fail_on=algo-1"),
            "--hyperparameter",
            "reason=no photos here",
        )


def test_stopping_and_going_on(cloud: Cloud, project: str) -> None:
    job = started(project, epochs=50, seconds=0.2)
    wait_for(lambda: call("logs", job).stdout, lambda text: "train:epoch=1;" in text)
    assert told("status", job)["status"] == "InProgress"
    assert told("stop", job)["status"] == "Stopped"
    assert told("stop", job)["status"] == "Stopped"
    second = train(project, "--resume-from", job, epochs=60, seconds=0)["name"]
    first_line = call("logs", second).stdout.splitlines()[0]
    assert int(first_line.removeprefix("begins at epoch ")) >= 2


def test_mistakes_cost_a_line(cloud: Cloud, project: str) -> None:
    before = len(cloud.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"])
    for kind, match, words in (
        (SettingsError, "did you mean 'epochs'", ("--set", "train.epoch=3")),
        (SettingsError, "'trian.epochs' is not known", ("--set", "trian.epochs=3")),
        (SettingsError, "less than or equal|greater than or equal", ("--set", "train.epochs=0")),
        (SettingsError, r"did you mean 'ml.m5.xlarge'", ("--instance", "ml.m5.xlrage")),
        (SettingsError, "unknown setting cloud.buckte", ("--set", "cloud.buckte=x")),
        (UsageError, "--to waits", ("--no-wait", "--to", "x")),
    ):
        with pytest.raises(kind, match=match):
            call("train", DATA, "--project", project, *words)
    with pytest.raises(UsageError, match="name the data"):
        call("train", "--project", project)
    assert len(cloud.sagemaker.list_training_jobs(MaxResults=100)["TrainingJobSummaries"]) == before


def test_a_dry_run_asks_the_service_nothing(
    cloud: Cloud, project: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text(
        "[cloud]\ntrain_instances = 2\n"
        '[CreateTrainingJob]\nVpcConfig = { Subnets = ["subnet-1"], SecurityGroupIds = ["sg-1"] }\n'
    )

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a request was sent")

    monkeypatch.setattr(Service, "_sent", never)
    found = json.loads(call("train", DATA, "--project", project, "--config", config, "--spot", "--dry-run").stdout)
    (request,) = found["requests"]
    assert request["operation"] == "CreateTrainingJob"
    assert request["request"]["ResourceConfig"]["InstanceCount"] == 2
    assert request["request"]["VpcConfig"]["Subnets"] == ["subnet-1"]
    assert request["request"]["EnableManagedSpotTraining"] is True
    for words in (
        ("tune", DATA, "--recipe", "seed"),
        ("deploy", "job", "--autoscale", "1:2"),
        ("batch", "job", DATA),
    ):
        assert json.loads(call(*words, "--project", project, "--dry-run").stdout)["requests"]
    config.write_text("[CreateTrainingJob]\nVpcConfg = { Subnets = [] }\n")
    with pytest.raises(SettingsError, match="did you mean 'VpcConfig'"):
        call("train", DATA, "--config", config, "--dry-run")
    config.write_text("[CreateTrainingJobs]\nx = 1\n")
    with pytest.raises(
        SettingsError, match=r"unknown table \[CreateTrainingJobs\]; did you mean 'CreateTrainingJob'"
    ):
        call("train", DATA, "--config", config, "--dry-run")


# ---------------------------------------------------------------------------------------------------- refusals


def rehearse(cloud: Cloud, *orders: str) -> None:
    from bintally.cloud.local.faults import Faults

    cloud.service.shared.faults._left = Faults(orders)._left


def test_throttling_is_waited_out(cloud: Cloud, project: str) -> None:
    rehearse(cloud, "CreateTrainingJob=ThrottlingException:1", "DescribeTrainingJob=ThrottlingException:1")
    done = call("train", DATA, "--project", project)
    assert "Completed" in done.stdout
    assert "the service asks to slow down (ThrottlingException): waiting, then trying again" in done.stderr


@pytest.mark.parametrize(
    ("fault", "kind", "match"),
    [
        ("CreateTrainingJob=ThrottlingException:9", CloudLimitError, "asked to slow down 3 times"),
        (
            "CreateTrainingJob=AccessDeniedException:1",
            CloudAccessError,
            "user/local may not do sagemaker:CreateTrainingJob",
        ),
        ("CreateTrainingJob=ExpiredTokenException:1", CloudAccessError, "credentials have expired"),
        ("CreateTrainingJob=ResourceLimitExceeded:1", CloudLimitError, "a quota of the account"),
        ("TrainingJob=CapacityError", CloudLimitError, "no free machine of that type"),
    ],
)
def test_refusals_are_clear_and_leave_nothing_running(
    cloud: Cloud, project: str, fault: str, kind: type[Exception], match: str
) -> None:
    rehearse(cloud, fault)
    try:
        with pytest.raises(kind, match=match):
            call("train", DATA, "--project", project)
    finally:
        rehearse(cloud)
    assert [one for one in told("status", "--project", project) if one["runs"]] == []


def test_a_job_that_cannot_be_followed_is_not_forgotten(cloud: Cloud, project: str) -> None:
    rehearse(cloud, "DescribeTrainingJob=AccessDeniedException:1")
    job = unique("lost")
    with pytest.raises(CloudAccessError, match=f"the training {job} goes on.*bintally cloud stop {job}"):
        call("train", DATA, "--project", project, "--name", job, "--hyperparameter", "seconds=300")
    assert told("stop", job)["status"] == "Stopped"
    rehearse(cloud, "CreateTrainingJob=InternalFailure:3")
    with pytest.raises(CloudError, match=f"whether training {job}-2 was made all the same, says .*status {job}-2"):
        call("train", DATA, "--project", project, "--name", f"{job}-2")


DENIED, THROTTLED, EXPIRED = "AccessDeniedException:1", "ThrottlingException:9", "ExpiredTokenException:1"
SAID = {
    DENIED: "may not do sagemaker:{0}|not authorized to perform: sagemaker:{0}",
    THROTTLED: r"{0}: the service asked to slow down 2 times|Rate exceeded \(2 attempts\)",
    EXPIRED: "security token .* is expired",
}
MODEL = "s3://bintally/m/model.tar.gz"


@pytest.mark.parametrize(
    ("code", "operation", "words"),
    [
        (DENIED, "CreateHyperParameterTuningJob", f"tune {DATA}"),
        (THROTTLED, "CreateHyperParameterTuningJob", f"tune {DATA}"),
        (DENIED, "DescribeHyperParameterTuningJob", f"tune {DATA}"),
        (THROTTLED, "CreateModel", f"deploy {MODEL}"),
        (DENIED, "CreateEndpointConfig", f"deploy {MODEL}"),
        (THROTTLED, "CreateEndpoint", f"deploy {MODEL}"),
        (DENIED, "CreateTransformJob", f"batch {MODEL} {DATA}"),
        (THROTTLED, "CreateTransformJob", f"batch {MODEL} {DATA}"),
        (DENIED, "InvokeEndpoint", "predict nobody PHOTO"),
        (THROTTLED, "InvokeEndpoint", "predict nobody PHOTO --set predict.attempts=2"),
        (EXPIRED, "InvokeEndpoint", "predict nobody PHOTO"),
        (DENIED, "DescribeTrainingJob", "status nobody"),
        (DENIED, "ListTrainingJobs", "status"),
        (THROTTLED, "DescribeTrainingJob", "logs nobody"),
        (DENIED, "DescribeTrainingJob", "download nobody --to x"),
        (THROTTLED, "DescribeTrainingJob", "stop nobody"),
        (DENIED, "ListEndpoints", "cost --running"),
        (DENIED, "ListModels", "destroy --yes"),
    ],
    ids=lambda text: text.partition(":")[0].partition(" s3")[0].removesuffix("Exception"),
)
def test_every_verb_has_a_line_for_a_refusal(
    cloud: Cloud,
    project: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    operation: str,
    words: str,
) -> None:
    monkeypatch.setenv("BINTALLY_CLOUD_ATTEMPTS", "2")
    cloud.put("m/model.tar.gz")
    draw_bin(tmp_path / "bin.jpg", 1, seed=1)
    (tmp_path / "space.toml").write_text("[train]\nhead_lr = { low = 1e-4, high = 1e-1, log = true }\n")
    given = [str(tmp_path / "bin.jpg") if word == "PHOTO" else word for word in words.split()]
    if given[0] == "tune":
        given += ["--space", str(tmp_path / "space.toml"), "--objective", "validation:accuracy"]
        given += ["--jobs", "1", "--parallel", "1"]
    if given[0] != "predict":
        given += ["--project", project]
    rehearse(cloud, f"{operation}={code}")
    try:
        with pytest.raises(BintallyError, match=SAID[code].format(operation)) as caught:
            call(*given)
    finally:
        rehearse(cloud)
    assert "\n" not in str(caught.value)
    if given[0] in {"tune", "deploy", "batch"}:
        named = tuple(
            re.findall(r"the tuning (\S+) goes on by itself", str(caught.value))
        )  # its trainings begin so, too
        left = [one for one in told("status", "--project", project) if one["runs"] or one["sort"] != "training"]
        assert [one["name"] for one in left if not one["name"].startswith(named)] == []


def test_a_quota_of_nought(project: str) -> None:
    with pytest.raises(CloudLimitError, match=r"CreateTrainingJob: a quota of the account.*ml\.p3\.2xlarge"):
        call("train", DATA, "--project", project, "--instance", "ml.p3.2xlarge")


def test_a_half_made_endpoint_is_undone(cloud: Cloud, project: str, tmp_path: Path) -> None:
    rehearse(cloud, "CreateEndpoint=ResourceLimitExceeded:1")
    try:
        with pytest.raises(CloudLimitError, match=r"quota.*removed again: configuration .*, model "):
            call("deploy", model_folder(tmp_path), "--project", project)
    finally:
        rehearse(cloud)
    assert told("status", "--project", project) == []


# ---------------------------------------------------------------------------------------------------- what it costs


def test_what_may_cost_more_than_the_limit_is_asked(
    cloud: Cloud, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "is_here", False)
    there = ("--project", project, "--bucket", "bintally", "--role", ROLE, "--image", "image:1")
    with pytest.raises(UsageError, match=r"past the limit of 0.1 USD: say --yes"):
        call("train", DATA, *there, "--cost-limit", 0.1)
    with pytest.raises(UsageError, match="not known to be within the limit"):
        call("train", DATA, *there, "--instance", "ml.p4d.24xlarge")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert told("status", "--project", project) == []
    done = call("train", DATA, *there, "--cost-limit", 0.1, "--yes")
    assert "cost: at most 0.47 USD (prices of" in done.stderr
    assert "Completed" in done.stdout
    within = call("train", DATA, *there, "--hours", 0.1, "--spot")
    assert "reckoned at the full price" in within.stderr
    assert "Completed" in within.stdout


def test_reckoning_asks_nobody(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    found = told("cost", "--set", "cloud.train_hours=1")
    assert found["training"]["usd"] == pytest.approx(0.23 + 30 / 730 * 0.14, abs=1e-3)
    assert set(found) == {"training", "tuning", "endpoint", "serverless endpoint", "batch"}
    said = call("cost", "--set", "cloud.train_hours=1").stdout
    assert "check them" in said
    assert "if it is forgotten" in said


def test_the_cost_of_what_runs(project: str) -> None:
    job = started(project, seconds=120)
    found = told("cost", "--running", "--project", project)
    assert [line["what"] for line in found["lines"]] == [f"training {job}"]
    assert found["usd"] == pytest.approx(0.23)
    call("destroy", job, "--project", project, "--yes")


# ---------------------------------------------------------------------------------------------------- tuning


def test_a_tuning(cloud: Cloud, project: str, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(
        "[train]\nhead_lr = { low = 1e-4, high = 1e-1, log = true }\nwarmup = { low = 0.0, high = 0.5, step = 0.25 }\n"
    )
    words = ("tune", DATA, "--project", project, "--space", space, "--objective", "validation:accuracy")
    done = call(*words, "--strategy", "Random", "--jobs", 3, "--parallel", 3)
    assert "knows no steps; its 3 values are searched as a list" in done.stderr
    assert re.search(r"Completed: 3 completed; best validation:accuracy", done.stderr)
    (job,) = [one["name"] for one in told("status", "--project", project) if one["sort"] == "tuning"]
    found = told("status", job)
    assert len(found["trainings"]) == 3
    assert found["best"] in {one["name"] for one in found["trainings"]}
    assert {"train.head_lr", "train.warmup"} == set(found["trainings"][0]["tuned"])
    assert [one["name"] for one in told("status", "--project", project) if one["sort"] == "training"]
    assert "its best training" in done.stderr
    assert told("download", job, "--to", tmp_path / "best")["name"] == found["best"]
    with pytest.raises(UsageError, match="its trainings do"):
        call("logs", job)


def test_a_grid_and_what_cannot_be(cloud: Cloud, project: str, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[train]\nbatch_size = [16, 32]\nschedule = ['cosine', 'constant']\n")
    words = ("tune", DATA, "--project", project, "--space", space, "--objective", "validation:accuracy")
    found = told(*words, "--strategy", "Grid", "--parallel", 4)
    tuned = {tuple(sorted(one["tuned"].items())) for one in found["trainings"]}
    assert len(tuned) == 4
    with pytest.raises(SettingsError, match="varies in the search space and is also set"):
        call(*words, "--set", "train.batch_size=64")
    with pytest.raises(SettingsError, match=r"--set train.epochs"):
        call(*words, "--strategy", "Hyperband")


# ---------------------------------------------------------------------------------------------------- endpoints


def test_an_endpoint_from_deploying_to_destroying(cloud: Cloud, project: str, tmp_path: Path) -> None:
    name = unique("counter")
    made = call("deploy", model_folder(tmp_path), "--name", name, "--project", project, "--autoscale", "1:3")
    assert f"endpoint {name}: InService" in made.stdout
    photo = tmp_path / "bin.jpg"
    draw_bin(photo, 3, seed=1)
    answer = told("predict", name, photo, "--show", tmp_path / "shown")
    assert answer["count"] in range(6)
    assert (tmp_path / "shown/bin.jpg").is_file()
    assert call("predict", name, photo).stdout.count("bin.jpg") == 1
    wait_for(lambda: call("logs", name).stdout, lambda text: bool(text.strip()))
    target = cloud.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{name}/variant/AllTraffic"]
    )["ScalableTargets"][0]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 3)

    # Deployed again under the same name: changed without a pause, and the old model and configuration go.
    again = told("deploy", model_folder(tmp_path), "--name", name, "--project", project)
    assert (again["status"], again["name"]) == ("InService", name)
    things = told("status", "--project", project)
    assert sorted(one["sort"] for one in things) == ["configuration", "endpoint", "model"]

    foreign = cloud.model()
    listed = call("destroy", "--project", project, "--dry-run").stdout
    assert name in listed
    assert foreign not in listed
    with pytest.raises(UsageError, match="say --yes"):
        call("destroy", "--project", project)
    assert len(told("status", "--project", project)) == 3
    gone = told("destroy", "--project", project, "--yes")
    assert [one["sort"] for one in gone["removed"]] == ["endpoint", "configuration", "model"]
    assert gone["left"] == []
    assert told("status", "--project", project) == []
    assert cloud.sagemaker.describe_model(ModelName=foreign)
    with pytest.raises(CloudError, match="is called"):
        call("status", name)


def test_a_serverless_endpoint(cloud: Cloud, project: str, tmp_path: Path) -> None:
    found = told("deploy", model_folder(tmp_path), "--serverless", "--memory", 2048, "--project", project)
    assert found["status"] == "InService"
    (config,) = [one["name"] for one in told("status", "--project", project) if one["sort"] == "configuration"]
    variant = cloud.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"][0]
    assert variant["ServerlessConfig"]["MemorySizeInMB"] == 2048
    draw_bin(tmp_path / "bin.jpg", 2, seed=2)
    assert "count" in told("predict", found["name"], tmp_path / "bin.jpg")
    with pytest.raises(UsageError, match="scales by itself"):
        call("deploy", model_folder(tmp_path), "--serverless", "--autoscale", "1:2", "--project", project)
    call("destroy", "--project", project, "--yes")


def test_an_endpoint_that_fails_leaves_nothing(cloud: Cloud, project: str) -> None:
    uri = cloud.put(f"models/{project}/model.tar.gz", b"no archive")
    with pytest.raises(
        CloudError, match=r"ended as Failed: .*; removed again: endpoint .*, configuration .*, model "
    ):
        call("deploy", uri, "--project", project)
    assert told("status", "--project", project) == []


def test_what_is_no_model(cloud: Cloud, project: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(Exception, match=r"model\.json"):
        call("deploy", tmp_path / "model", "--project", project)
    with pytest.raises(CloudError, match="no training, no tuning is called 'nothing'"):
        call("deploy", "nothing", "--project", project)
    with pytest.raises(UsageError, match="is no folder here"):
        call("deploy", "models/nothing", "--project", project)
    with pytest.raises(UsageError, match="as in 1:4"):
        call("deploy", "nothing", "--autoscale", "3", "--project", project)
    assert told("status", "--project", project) == []


def test_an_endpoint_of_somebody_else(cloud: Cloud, project: str, tmp_path: Path) -> None:
    name = told("deploy", model_folder(tmp_path), "--project", project)["name"]
    with pytest.raises(CloudError, match="without the tag of the project another"):
        call("deploy", model_folder(tmp_path), "--name", name, "--project", "another")
    with pytest.raises(CloudError, match="nothing that bintally made is called"):
        call("destroy", name, "--project", "another", "--yes")
    call("destroy", "--project", project, "--yes")


# ---------------------------------------------------------------------------------------------------- batch


def test_a_batch(cloud: Cloud, project: str, tmp_path: Path) -> None:
    for number in range(3):
        draw_bin(tmp_path / "bin.jpg", number, seed=number)
        cloud.put(f"{project}/photos/{number}/a.jpg", (tmp_path / "bin.jpg").read_bytes())
    to = f"s3://bintally/{project}/answers"
    found = told("batch", model_folder(tmp_path), f"s3://bintally/{project}/photos", "--to", to, "--project", project)
    assert (found["status"], found["photos"], found["answers"]) == ("Completed", 3, 3)
    key = f"{project}/answers/2/a.jpg.out"
    body = json.loads(cloud.s3.get_object(Bucket="bintally", Key=key)["Body"].read())
    assert body["count"] in range(6)
    # Its model is gone, the record of the job stays.
    assert [one["sort"] for one in told("status", "--project", project)] == ["batch"]
    with pytest.raises(UsageError, match="holds nothing"):
        call("batch", model_folder(tmp_path), f"s3://bintally/{project}/none", "--project", project)
    with pytest.raises(UsageError, match="'photos' is no s3://"):
        call("batch", model_folder(tmp_path), "photos", "--project", project)


# ---------------------------------------------------------------------------------------------------- destroying


def test_only_what_is_named_or_runs(cloud: Cloud, project: str) -> None:
    done, runs = train(project)["name"], started(project, seconds=120)
    foreign = unique("foreign")
    cloud.sagemaker.create_training_job(
        **training(foreign),
        HyperParameters={"seconds": "120"},
        InputDataConfig=[channel("data", "s3://bintally/bins")],
    )
    listed = told("destroy", "--project", project, "--dry-run")["would_remove"]
    assert [one["name"] for one in listed] == [runs]
    gone = told("destroy", "--project", project, "--yes", "--records")
    assert {one["name"] for one in gone["removed"]} == {runs, done}
    assert cloud.sagemaker.describe_training_job(TrainingJobName=foreign)["TrainingJobStatus"] == "InProgress"
    cloud.trained(runs)
    cloud.sagemaker.stop_training_job(TrainingJobName=foreign)
    cloud.trained(foreign)
    assert "nothing to remove" in call("destroy", "--project", project, "--yes").stdout


# ---------------------------------------------------------------------------------------------------- Ctrl-C


def following(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bintally", "cloud", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )


def interrupted(running: "subprocess.Popen[str]") -> tuple[int, str]:
    """Waits until the training trains, and sends Ctrl-C."""
    assert running.stderr is not None
    said = ""
    until = time.monotonic() + 120
    for line in running.stderr:
        said += line
        if re.search(r"\d:\d\d  Training", line) or time.monotonic() > until:
            break
    running.send_signal(signal.SIGINT)
    try:
        _, rest = running.communicate(timeout=120)
    finally:
        running.kill()
    return running.returncode, said + rest


def test_an_interrupt_leaves_the_job_and_says_so(cloud: Cloud, project: str) -> None:
    job = unique("followed")
    code, said = interrupted(
        following("train", DATA, "--project", project, "--name", job, "--hyperparameter", "seconds=300")
    )
    assert code == 130, said
    last = said.splitlines()[-1]
    assert last.startswith(f"error: stopped following; the training {job} goes on. Follow it again: ")
    assert f"bintally cloud status {job} --follow --project {project}" in last
    assert f"bintally cloud stop {job} --project {project}" in last
    assert told("status", job)["status"] == "InProgress"
    assert told("stop", job, "--project", project)["status"] == "Stopped"


def test_or_stops_it_when_that_was_asked_for(cloud: Cloud, project: str) -> None:
    job = unique("followed")
    words = ("--name", job, "--hyperparameter", "seconds=300", "--stop-on-interrupt")
    code, said = interrupted(following("train", DATA, "--project", project, *words))
    assert code == 130, said
    assert said.splitlines()[-1] == f"error: training {job} is Stopped; what it had written is kept"
    assert told("status", job)["status"] == "Stopped"
