import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.local.running import Cloud, channel, training, unique, wait_for


def seen(cloud: Cloud, name: str, host: str = "algo-1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        cloud.archive(f"s3://bintally/out/{name}/output/output.tar.gz")[f"seen-{host}.json"]
    )
    return found


def test_a_whole_job(cloud: Cloud) -> None:
    cloud.put("data/train/0/a.jpg", b"a")
    cloud.put("data/train/12/b.jpg", b"b")
    name = cloud.train(
        HyperParameters={"epochs": "3", "train.learning_rate": "0.1"},
        InputDataConfig=[
            channel("train", "s3://bintally/data/train"),
            channel("one", "s3://bintally/data/train/0/a.jpg"),
        ],
        Environment={"FLAVOUR": "sweet"},
    )
    job = cloud.trained(name)
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Completed", job
    steps = [one["Status"] for one in job["SecondaryStatusTransitions"]]
    assert steps == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://bintally/out/{name}/output/model.tar.gz"
    assert cloud.archive(job["ModelArtifacts"]["S3ModelArtifacts"]) == {
        "weights-algo-1.bin": b"w" * 1000,
        "shared.txt": b"algo-1",
    }
    [metric] = job["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("validation:accuracy", pytest.approx(1.41))
    assert job["TrainingEndTime"] >= job["TrainingStartTime"] >= job["CreationTime"]
    assert job["TrainingTimeInSeconds"] >= job["BillableTimeInSeconds"] >= 1
    told = seen(cloud, name)
    assert told["files"] == ["input/data/one/a.jpg", "input/data/train/0/a.jpg", "input/data/train/12/b.jpg"]
    assert told["hps"] == {"epochs": "3", "train.learning_rate": "0.1"}
    assert told["resources"]["hosts"] == ["algo-1"]
    assert told["channels"]["train"]["TrainingInputMode"] == "File"
    environ = told["environ"]
    assert environ["FLAVOUR"] == "sweet"
    assert json.loads(environ["SM_HPS"]) == told["hps"]
    assert environ["SM_CHANNEL_TRAIN"].endswith("/input/data/train")
    assert environ["TRAINING_JOB_NAME"] == name
    assert environ["AWS_ENDPOINT_URL_S3"] == cloud.service.access.endpoint
    lines = cloud.lines("/aws/sagemaker/TrainingJobs", f"{name}/algo-1-")
    assert lines[0] == "begins at epoch 0"
    assert len(lines) == 4


def test_a_failing_one_says_why(cloud: Cloud) -> None:
    name = cloud.train(HyperParameters={"fail_on": "algo-1", "reason": "no photo is labelled 3" + "!" * 2000})
    job = cloud.trained(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Failed", "Failed")
    assert job["FailureReason"].startswith("AlgorithmError: no photo is labelled 3!!!")
    assert len(job["FailureReason"]) == 1024
    assert "ModelArtifacts" not in job
    assert seen(cloud, name)["hps"]["fail_on"] == "algo-1"
    assert "about to fail" in cloud.lines("/aws/sagemaker/TrainingJobs", f"{name}/")


def test_stopped_and_gone_on_with(cloud: Cloud) -> None:
    checkpoints = {"CheckpointConfig": {"S3Uri": f"s3://bintally/{unique('kept')}"}}
    hps = {"epochs": "4", "seconds": "60"}
    name = cloud.train(HyperParameters=hps, **checkpoints)
    wait_for(lambda: cloud.told(name), bool)  # from then on it hears SIGTERM
    cloud.sagemaker.stop_training_job(TrainingJobName=name)
    job = cloud.trained(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert "Stopping" in [one["Status"] for one in job["SecondaryStatusTransitions"]]
    with pytest.raises(ClientError, match="training job is in status Stopped"):
        cloud.sagemaker.stop_training_job(TrainingJobName=name)
    again = cloud.train(HyperParameters=hps | {"seconds": "0"}, **checkpoints)
    assert cloud.trained(again)["TrainingJobStatus"] == "Completed"
    lines = cloud.lines("/aws/sagemaker/TrainingJobs", f"{again}/")
    before = cloud.lines("/aws/sagemaker/TrainingJobs", f"{name}/")
    assert "stopped; the checkpoint is written" in before
    epochs = sum(line.startswith("metrics:") for line in before)
    assert lines[0] == f"begins at epoch {epochs}"
    assert epochs >= 1


@pytest.mark.slow
def test_one_that_does_not_listen_is_killed(cloud: Cloud) -> None:
    name = cloud.train(
        HyperParameters={"deaf": "1", "epochs": "1", "seconds": "300"}, StoppingCondition={"MaxRuntimeInSeconds": 1}
    )
    job = cloud.trained(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_hosts_have_trees_of_their_own(cloud: Cloud) -> None:
    for number in range(5):
        cloud.put(f"sharded/{number}.jpg")
    name = cloud.train(
        hosts=2,
        InputDataConfig=[channel("data", "s3://bintally/sharded/", S3DataDistributionType="ShardedByS3Key")],
    )
    job = cloud.trained(name)
    assert job["TrainingJobStatus"] == "Completed", job
    first, second = seen(cloud, name), seen(cloud, name, "algo-2")
    assert first["resources"]["hosts"] == second["resources"]["hosts"] == ["algo-1", "algo-2"]
    assert (first["resources"]["current_host"], second["environ"]["SM_CURRENT_HOST"]) == ("algo-1", "algo-2")
    assert sorted(first["files"] + second["files"]) == [f"input/data/data/{number}.jpg" for number in range(5)]
    assert first["cwd"] != second["cwd"]
    assert first["environ"]["MASTER_PORT"] == second["environ"]["MASTER_PORT"]
    model = cloud.archive(job["ModelArtifacts"]["S3ModelArtifacts"])
    assert sorted(model) == ["shared.txt", "weights-algo-1.bin", "weights-algo-2.bin"]
    assert model["shared.txt"] == b"algo-1"


def test_a_failing_host_ends_the_others(cloud: Cloud) -> None:
    name = cloud.train(hosts=2, HyperParameters={"fail_on": "algo-2", "reason": "out of memory", "seconds": "300"})
    job = cloud.trained(name)
    assert job["FailureReason"] == "AlgorithmError: out of memory, exit code: 3"


def test_channels_that_are_not_there(cloud: Cloud) -> None:
    name = cloud.train(InputDataConfig=[channel("train", "s3://bintally/no/such/prefix")])
    job = cloud.trained(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert "No S3 objects found under S3 URL 's3://bintally/no/such/prefix'" in job["FailureReason"]
    name = cloud.train(InputDataConfig=[channel("train", "s3://no-such-bucket/x")])
    assert "NoSuchBucket" in cloud.trained(name)["FailureReason"]


def test_names_are_taken_once(cloud: Cloud) -> None:
    name = cloud.train()
    with pytest.raises(cloud.sagemaker.exceptions.ResourceInUse, match=f"already exists .*training-job/{name}"):
        cloud.train(name)
    cloud.trained(name)
    cloud.sagemaker.delete_training_job(TrainingJobName=name)
    with pytest.raises(ClientError, match=r"\(ValidationException\).* Requested resource not found"):
        cloud.sagemaker.describe_training_job(TrainingJobName=name)


def test_a_running_one_is_not_deleted(cloud: Cloud) -> None:
    name = cloud.train(HyperParameters={"seconds": "300"})
    with pytest.raises(cloud.sagemaker.exceptions.ResourceInUse):
        cloud.sagemaker.delete_training_job(TrainingJobName=name)
    cloud.sagemaker.stop_training_job(TrainingJobName=name)
    assert cloud.trained(name)["TrainingJobStatus"] == "Stopped"


def test_lists(cloud: Cloud) -> None:
    stem = unique("listed")
    names = [cloud.train(f"{stem}-{place}") for place in range(3)]
    for name in names:
        cloud.trained(name)
    first = cloud.sagemaker.list_training_jobs(NameContains=stem, SortBy="Name", MaxResults=2)
    assert [one["TrainingJobName"] for one in first["TrainingJobSummaries"]] == names[:2]
    rest = cloud.sagemaker.list_training_jobs(NameContains=stem, SortBy="Name", NextToken=first["NextToken"])
    assert [one["TrainingJobName"] for one in rest["TrainingJobSummaries"]] == names[2:]
    newest = cloud.sagemaker.list_training_jobs(NameContains=stem)["TrainingJobSummaries"]
    assert [one["TrainingJobName"] for one in newest] == names[::-1]
    assert not cloud.sagemaker.list_training_jobs(NameContains=stem, StatusEquals="Failed")["TrainingJobSummaries"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"AlgorithmSpecification": {"TrainingInputMode": "File"}}, "either an algorithm name or a training image"),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 9}},
            "without EnableManagedSpotTraining",
        ),
        ({"CheckpointConfig": {"S3Uri": "s3://b/k", "LocalPath": "/tmp"}}, "checkpoints below /opt/ml"),
        ({"InputDataConfig": [channel("a", "s3://b/x"), channel("a", "s3://b/y")]}, "Channel names must be unique"),
        (
            {"RoleArn": "arn:aws:iam::123:role/x"},
            "'roleArn' failed to satisfy constraint: Member must satisfy regular",
        ),
    ],
)
def test_what_cannot_be_is_refused(cloud: Cloud, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ClientError, match=says) as caught:
        cloud.sagemaker.create_training_job(**training(unique("refused")) | change)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
