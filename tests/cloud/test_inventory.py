from dataclasses import replace
from typing import Any

import pytest

from bintally.cloud.inventory import SORTS, Thing, is_ours, list_things, machines_of
from bintally.cloud.options import CloudSettings
from bintally.cloud.service import Service
from bintally.errors import CloudAccessError
from tests.cloud.stand_in import Refusal, StandIn

SORT = {sort.name: sort for sort in SORTS}
OURS = {"Tags": [{"Key": "team", "Value": "x"}, {"Key": "bintally:project", "Value": "bintally"}]}
OTHERS = {"Tags": [{"Key": "bintally:project", "Value": "another"}]}


def entry(member: str, name: str, status: str = "") -> dict[str, Any]:
    told = {f"{member}Name": name, f"{member}Arn": f"arn:aws:sagemaker:us-east-1:123456789012:x/{name}"}
    return told | {"CreationTime": 1_000_000.0} | ({f"{member}Status": status} if status else {})


def test_only_what_bears_the_tag(stand_in: StandIn, service: Service, settings: CloudSettings) -> None:
    stand_in.answers["ListTrainingJobs"] = [
        {"TrainingJobSummaries": [entry("TrainingJob", "running", "InProgress")]},
        {"TrainingJobSummaries": []},
        {
            "TrainingJobSummaries": [
                entry("TrainingJob", "running", "InProgress"),
                entry("TrainingJob", "old", "Failed"),
            ]
        },
    ]
    stand_in.answers["ListEndpoints"] = [{"Endpoints": [entry("Endpoint", "ours", "InService")]}]
    stand_in.answers["ListModels"] = [{"Models": [entry("Model", "foreign"), entry("Model", "other-project")]}]
    stand_in.answers["ListTags"] = [OURS, OURS, OURS, {"Tags": []}, OTHERS]
    found = list_things(service, settings, days=7)
    assert [(one.sort.name, one.name, one.runs) for one in found] == [
        ("training", "running", True),
        ("training", "old", False),
        ("endpoint", "ours", True),
    ]
    assert found[0].row()["status"] == "InProgress"
    listed = stand_in.of("ListTrainingJobs")
    assert [one.get("StatusEquals") for one in listed] == ["InProgress", "Stopping", None]
    assert "CreationTimeAfter" in listed[2]


def test_another_project_is_not_ours(stand_in: StandIn, service: Service, settings: CloudSettings) -> None:
    stand_in.answers["ListTags"] = [{"Tags": [], "NextToken": "t"}, OTHERS]
    assert not is_ours(service, "arn", settings)
    stand_in.answers["ListTags"] = [OTHERS]
    assert is_ours(service, "arn", replace(settings, project="another"))
    stand_in.answers["ListTags"] = [Refusal("ValidationException", "Requested resource not found")]
    assert not is_ours(service, "arn", settings)


def test_who_may_not_see_tags_is_told(stand_in: StandIn, service: Service, settings: CloudSettings) -> None:
    stand_in.answers["ListModels"] = [{"Models": [entry("Model", "m")]}]
    stand_in.answers["ListTags"] = [Refusal("AccessDeniedException", "no")]
    with pytest.raises(CloudAccessError, match="sagemaker:ListTags"):
        list_things(service, settings)


def test_the_machines_at_work(stand_in: StandIn, service: Service) -> None:
    training = Thing(sort=SORT["training"], name="t", arn="", status="InProgress")
    stand_in.answers["DescribeTrainingJob"] = [
        {"TrainingJobName": "t", "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}}
    ]
    assert machines_of(service, training) == [("training t", "ml.m5.xlarge", 2)]
    endpoint = Thing(sort=SORT["endpoint"], name="e", arn="", status="InService")
    stand_in.answers["DescribeEndpoint"] = [
        {
            "EndpointName": "e",
            "EndpointConfigName": "c",
            "ProductionVariants": [{"VariantName": "AllTraffic", "CurrentInstanceCount": 3}],
        }
    ]
    variant = {"VariantName": "AllTraffic", "InstanceType": "ml.c5.large", "InitialInstanceCount": 1}
    stand_in.answers["DescribeEndpointConfig"] = [{"EndpointConfigName": "c", "ProductionVariants": [variant]}]
    assert machines_of(service, endpoint) == [("endpoint e", "ml.c5.large", 3)]
    without = {"VariantName": "AllTraffic", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}}
    stand_in.answers["DescribeEndpointConfig"] = [{"EndpointConfigName": "c", "ProductionVariants": [without]}]
    assert machines_of(service, endpoint) == []
    assert machines_of(service, Thing(sort=SORT["model"], name="m", arn="")) == []
