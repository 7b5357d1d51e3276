from typing import Any

import pytest
from botocore.exceptions import ClientError

from bintally.cloud.local.names import MODEL, TRAINING, Place, list_page
from bintally.cloud.local.state import State
from tests.cloud.local.running import Cloud


def test_arns() -> None:
    place = Place(region="eu-west-1", account="123456789012")
    assert place.arn(TRAINING, "My-Job") == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/my-job"
    assert (MODEL.name, MODEL.arn, TRAINING.status) == ("ModelName", "ModelArn", "TrainingJobStatus")


def test_filters_and_orders(tmp_path: Any) -> None:
    state = State(tmp_path)
    for number, name in enumerate(("b-one", "a-one", "c-two")):
        record = {
            "TrainingJobName": name,
            "CreationTime": number,
            "TrainingJobStatus": "Failed" if number else "Stopped",
        }
        state.add("training-job", name, record, ValueError)

    def listed(**params: Any) -> list[str]:
        rows = list_page(state, TRAINING, params)["TrainingJobSummaries"]
        return [one["TrainingJobName"] for one in rows]

    assert listed() == ["c-two", "a-one", "b-one"]
    assert listed(SortBy="Name") == ["a-one", "b-one", "c-two"]
    assert listed(SortBy="Name", SortOrder="Descending") == ["c-two", "b-one", "a-one"]
    assert listed(SortBy="Status", NameContains="one") == ["a-one", "b-one"]
    assert listed(StatusEquals="Stopped") == ["b-one"]
    assert listed(CreationTimeAfter=0, CreationTimeBefore=2) == ["a-one"]
    state.close()


def test_tags_of_things(cloud: Cloud) -> None:
    name = cloud.train(Tags=[{"Key": "bintally:project", "Value": "a"}, {"Key": "team", "Value": "x"}])
    arn = cloud.trained(name)["TrainingJobArn"]
    cloud.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "y"}, {"Key": "new", "Value": ""}])
    cloud.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["bintally:project"])
    tags = cloud.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    assert {one["Key"]: one["Value"] for one in tags} == {"team": "y", "new": ""}
    many = [{"Key": str(number), "Value": ""} for number in range(49)]
    with pytest.raises(ClientError, match="at most 50 tags"):
        cloud.sagemaker.add_tags(ResourceArn=arn, Tags=many)
    with pytest.raises(ClientError, match="Could not find resource"):
        cloud.sagemaker.list_tags(ResourceArn=arn.replace(name, "nothing"))
