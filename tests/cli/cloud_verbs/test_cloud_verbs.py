"""Every verb of `bintally cloud` against the service on this machine: a stand-in trains, `bintally serve` itself serves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bintally.cloud.service import Service
from bintally.errors import (
    CloudError,
    JobFailedError,
    SettingsError,
    UsageError,
)
from tests.cli.cloud_verbs.asking import DATA, call, model_folder, started, told, train
from tests.cloud.local.running import ROLE, Cloud, channel, training, unique, wait_for
from tests.cloud.opt_ml import draw_bin

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
    (tmp_path / "space.toml").write_text("[train]\nhead_lr = { low = 1e-4, high = 0.1, log = true }\n")
    tuning = ("tune", DATA, "--recipe", "best", "--space", tmp_path / "space.toml", "--project", project, "--dry-run")
    for said, refit in (((), "false"), (("--set", "train.refit=true"), "true")):
        words = (*tuning, *said)
        (request,) = json.loads(call(*words).stdout)["requests"]
        assert request["request"]["TrainingJobDefinition"]["StaticHyperParameters"]["train.refit"] == refit
    config.write_text("[CreateTrainingJob]\nVpcConfg = { Subnets = [] }\n")
    with pytest.raises(SettingsError, match="did you mean 'VpcConfig'"):
        call("train", DATA, "--config", config, "--dry-run")
    config.write_text("[CreateTrainingJobs]\nx = 1\n")
    with pytest.raises(
        SettingsError, match=r"unknown table \[CreateTrainingJobs\]; did you mean 'CreateTrainingJob'"
    ):
        call("train", DATA, "--config", config, "--dry-run")


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
