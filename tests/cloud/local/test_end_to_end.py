"""The course's way with bintally's own programs: train, deploy, predict, batch, on the service of this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bintally.cloud.local.shared import Programs
from bintally.cloud.metrics import METRICS
from tests.cloud.local.running import ROLE, Cloud, channel, wait_for
from tests.cloud.opt_ml import QUICK, class_folders


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    running = Cloud(tmp_path_factory.mktemp("real"), Programs(), training_stop_s=120.0)
    yield running
    running.stop()


@pytest.mark.slow
def test_train_deploy_predict_batch(real: Cloud, tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "bins", parts=("train", "validation", "calibration", "test"))
    for path in sorted(photos.rglob("*.jpg")):
        real.put(f"bins/{path.relative_to(photos).as_posix()}", path.read_bytes())
    parts = ("train", "validation", "calibration", "test")
    image = {
        "TrainingImage": "000000000000.dkr.ecr.us-east-1.amazonaws.com/bintally:1",
        "TrainingInputMode": "FastFile",
        "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRICS.items()],
    }
    name = real.train(
        AlgorithmSpecification=image,
        HyperParameters=QUICK,
        InputDataConfig=[channel(part, f"s3://bintally/bins/{part}") for part in parts],
        CheckpointConfig={"S3Uri": "s3://bintally/checkpoints"},
    )
    done = wait_for(
        lambda: real.sagemaker.describe_training_job(TrainingJobName=name),
        lambda job: job["TrainingJobStatus"] in {"Completed", "Failed"},
        900,
    )
    log = "\n".join(real.lines("/aws/sagemaker/TrainingJobs", f"{name}/"))
    assert done["TrainingJobStatus"] == "Completed", f"{done.get('FailureReason')}\n{log}"
    metrics = {one["MetricName"]: one["Value"] for one in done["FinalMetricDataList"]}
    assert metrics["train:epoch"] == 2
    assert {"validation:nll", "validation:accuracy", "test:accuracy"} <= metrics.keys()
    model = done["ModelArtifacts"]["S3ModelArtifacts"]
    assert {"model.json"} <= real.archive(model).keys()
    assert "history.csv" in real.archive(model.replace("model.tar.gz", "output.tar.gz"))
    assert real.keys("checkpoints/run")

    container = {"Image": image["TrainingImage"], "ModelDataUrl": model}
    real.sagemaker.create_model(ModelName="bins", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    endpoint = real.deploy(real.config("bins"))
    described = wait_for(
        lambda: real.sagemaker.describe_endpoint(EndpointName=endpoint),
        lambda one: one["EndpointStatus"] != "Creating",
        300,
    )
    assert described["EndpointStatus"] == "InService", described
    photo = next((photos / "test" / "2").iterdir()).read_bytes()
    answer = real.ask(endpoint, photo)
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert answer["count"] in range(4)

    real.sagemaker.create_transform_job(
        TransformJobName="batch",
        ModelName="bins",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bintally/bins/test/"}},
            "ContentType": "image/jpeg",
        },
        TransformOutput={"S3OutputPath": "s3://bintally/counted"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    batch = wait_for(
        lambda: real.sagemaker.describe_transform_job(TransformJobName="batch"),
        lambda job: job["TransformJobStatus"] != "InProgress",
        300,
    )
    assert batch["TransformJobStatus"] == "Completed", batch
    assert len(real.keys("counted/")) == len(list((photos / "test").rglob("*.jpg")))


@pytest.mark.slow
def test_a_wrong_hyperparameter_is_the_jobs_reason(real: Cloud, tmp_path: Path) -> None:
    real.put("few/train/1/a.jpg")
    name = real.train(HyperParameters={"epoch": "3"}, InputDataConfig=[channel("train", "s3://bintally/few/train")])
    job = wait_for(
        lambda: real.sagemaker.describe_training_job(TrainingJobName=name),
        lambda one: one["TrainingJobStatus"] == "Failed",
        300,
    )
    assert job["FailureReason"] == (
        "AlgorithmError: the hyperparameter 'epoch' is not known; did you mean 'epochs'?, exit code: 1"
    )


@pytest.mark.slow
def test_two_hosts_train_together(real: Cloud, tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "bins", num=16, parts=("train", "validation"))
    for path in sorted(photos.rglob("*.jpg")):
        real.put(f"pair/{path.relative_to(photos).as_posix()}", path.read_bytes())
    name = real.train(
        hosts=2,
        HyperParameters=QUICK | {"train.epochs": "1"},
        InputDataConfig=[channel(part, f"s3://bintally/pair/{part}") for part in ("train", "validation")],
    )
    done = wait_for(
        lambda: real.sagemaker.describe_training_job(TrainingJobName=name),
        lambda job: job["TrainingJobStatus"] in {"Completed", "Failed"},
        900,
    )
    log = "\n".join(real.lines("/aws/sagemaker/TrainingJobs", f"{name}/"))
    assert done["TrainingJobStatus"] == "Completed", f"{done.get('FailureReason')}\n{log}"
    assert "model.json" in real.archive(done["ModelArtifacts"]["S3ModelArtifacts"])
