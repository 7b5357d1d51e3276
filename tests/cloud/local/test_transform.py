import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.local.running import DONE, Cloud, unique, wait_for


def transform(cloud: Cloud, model: str, prefix: str, **more: Any) -> str:
    name = unique("transform")
    request = {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://bintally/{prefix}"}},
            "ContentType": "image/jpeg",
        },
        "TransformOutput": {"S3OutputPath": f"s3://bintally/{name}"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    cloud.sagemaker.create_transform_job(**request | more)
    return name


def ended(cloud: Cloud, name: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(
        lambda: cloud.sagemaker.describe_transform_job(TransformJobName=name),
        lambda one: one["TransformJobStatus"] in DONE,
    )
    return found


def test_every_object_below_a_prefix(cloud: Cloud) -> None:
    prefix = unique("photos")
    for number in range(12):
        cloud.put(f"{prefix}/{number % 3}/{number}.jpg", b"x" * number)
    model = cloud.model(transforms=3)
    name = transform(cloud, model, f"{prefix}/", Environment={"FLAVOUR": "sour"})
    job = ended(cloud, name)
    assert job["TransformJobStatus"] == "Completed", job
    assert job["TransformEndTime"] >= job["TransformStartTime"]
    assert cloud.keys(name) == sorted(f"{name}/{number % 3}/{number}.jpg.out" for number in range(12))
    body = cloud.s3.get_object(Bucket="bintally", Key=f"{name}/1/7.jpg.out")["Body"].read()
    assert json.loads(body) == {"name": model, "bytes": 7, "type": "image/jpeg", "env": "sour"}
    listed = cloud.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert [one["TransformJobStatus"] for one in listed] == ["Completed"]


def test_one_bad_photo_fails_the_job_and_keeps_the_others(cloud: Cloud) -> None:
    prefix = unique("photos")
    for key, body in (("a.jpg", b"good"), ("b.jpg", b"bad"), ("c.jpg", b"good")):
        cloud.put(f"{prefix}/{key}", body)
    name = transform(cloud, cloud.model(), prefix, MaxConcurrentTransforms=1)
    job = ended(cloud, name)
    assert job["TransformJobStatus"] == "Failed"
    assert f"1 of 3 objects failed, such as {prefix}/b.jpg: the model answered 422" in job["FailureReason"]
    assert cloud.keys(name) == [f"{name}/a.jpg.out", f"{name}/c.jpg.out"]
    assert any("b.jpg" in line for line in cloud.lines("/aws/sagemaker/TransformJobs", name))


def test_stopped(cloud: Cloud) -> None:
    prefix = unique("photos")
    for number in range(40):
        cloud.put(f"{prefix}/{number}.jpg", b"slow")
    name = transform(cloud, cloud.model(slow_s=0.5), prefix, MaxConcurrentTransforms=1)
    wait_for(lambda: cloud.keys(name), bool)
    cloud.sagemaker.stop_transform_job(TransformJobName=name)
    assert ended(cloud, name)["TransformJobStatus"] == "Stopped"
    assert 0 < len(cloud.keys(name)) < 40
    with pytest.raises(ClientError, match="transform job is in status Stopped"):
        cloud.sagemaker.stop_transform_job(TransformJobName=name)


def test_what_does_not_work(cloud: Cloud) -> None:
    model = cloud.model()
    assert "No S3 objects found" in ended(cloud, transform(cloud, model, "empty/prefix"))["FailureReason"]
    cloud.put("one/photo.jpg")
    assert "did not pass the ping" in ended(cloud, transform(cloud, cloud.model(broken=True), "one"))["FailureReason"]
    with pytest.raises(ClientError, match="Could not find model"):
        transform(cloud, "nobody", "one")
    with pytest.raises(ClientError, match="MultiRecord needs a SplitType"):
        transform(cloud, model, "one", BatchStrategy="MultiRecord")
    with pytest.raises(ClientError, match="Could not find requested job with name: nothing"):
        cloud.sagemaker.describe_transform_job(TransformJobName="nothing")
    name = transform(cloud, model, "one")
    with pytest.raises(cloud.sagemaker.exceptions.ResourceInUse):
        cloud.sagemaker.create_transform_job(
            **{key: value for key, value in ended(cloud, name).items() if key in _AGAIN}
        )


_AGAIN = {"TransformJobName", "ModelName", "TransformInput", "TransformOutput", "TransformResources"}
