import json
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from bintally.cloud.local.options import LocalSettings
from bintally.cloud.local.service import Service
from bintally.errors import UsageError
from tests.cloud.local.running import Cloud, training, unique


def test_clients_find_it_by_the_environment(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.service.environment(cloud.url).items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session()
    identity = session.client("sts").get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == ("000000000000", "arn:aws:iam::000000000000:user/local")
    assert session.client("s3").list_buckets()["Buckets"][0]["Name"] == "bintally"
    assert "TrainingJobSummaries" in session.client("sagemaker").list_training_jobs()
    assert "logGroups" in session.client("logs").describe_log_groups()
    assert session.client("application-autoscaling").describe_scaling_policies(ServiceNamespace="sagemaker")
    with pytest.raises(ClientError, match="UnknownOperationException"):
        session.client("ecr").describe_repositories()
    with pytest.raises(ClientError, match="not found"):
        session.client("sagemaker-runtime").invoke_endpoint(EndpointName="nobody", Body=b"x")


def test_operations_that_are_not_carried_out(cloud: Cloud) -> None:
    with pytest.raises(ClientError, match="ListNotebookInstances is not carried out") as caught:
        cloud.sagemaker.list_notebook_instances()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_quotas_and_faults_are_the_clients_errors(tmp_path: Path) -> None:
    cloud = Cloud(
        tmp_path,
        quotas=("ml.p3.2xlarge=0",),
        faults=("DescribeModel=ThrottlingException:2", "ListTags=InternalFailure"),
    )
    try:
        request = training(unique("job"))
        request["ResourceConfig"]["InstanceType"] = "ml.p3.2xlarge"
        with pytest.raises(
            cloud.sagemaker.exceptions.ResourceLimitExceeded, match=r"'ml\.p3\.2xlarge for training job"
        ):
            cloud.sagemaker.create_training_job(**request)
        with pytest.raises(ClientError, match=r"\(ThrottlingException\)"):
            cloud.sagemaker.describe_model(ModelName="m")
        # boto3's own retries get over the rest.
        patient = cloud.client("sagemaker", retries={"total_max_attempts": 3, "mode": "standard"})
        with pytest.raises(ClientError, match="Could not find model"):
            patient.describe_model(ModelName="m")
        with pytest.raises(ClientError) as caught:
            cloud.sagemaker.list_tags(ResourceArn="arn:aws:sagemaker:us-east-1:000000000000:model/m")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    finally:
        cloud.stop()


def test_one_service_a_folder(cloud: Cloud) -> None:
    with pytest.raises(UsageError, match="another `bintally cloud local` runs"):
        Service(cloud.root, LocalSettings())


def test_a_mistake_of_ours_is_an_answer(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cloud.service._handlers, ("sagemaker", "ListModels"), lambda params: 1 / 0)
    with pytest.raises(ClientError, match=r"\(InternalFailure\).*ZeroDivisionError"):
        cloud.sagemaker.list_models()


def test_the_front_page_says_what_this_is(cloud: Cloud) -> None:
    with urllib.request.urlopen(f"{cloud.url}/", timeout=30) as answer:
        assert json.load(answer)["service"] == "bintally cloud local"
