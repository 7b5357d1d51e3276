import os
import signal
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.local.running import ROLE, Cloud, unique, wait_for


def refused(caught: Any) -> tuple[str, int]:
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_from_model_to_answer_and_away(cloud: Cloud) -> None:
    model = cloud.model()
    config = cloud.config(model)
    endpoint = cloud.deploy(config)
    described = cloud.settled(endpoint)
    assert described["EndpointStatus"] == "InService", described
    assert described["EndpointConfigName"] == config
    [variant] = described["ProductionVariants"]
    assert (variant["VariantName"], variant["CurrentInstanceCount"]) == ("v0", 1)
    photo = bytes(range(256)) * 4000
    answer = cloud.runtime.invoke_endpoint(EndpointName=endpoint, Body=photo, ContentType="image/jpeg")
    assert answer["InvokedProductionVariant"] == "v0"
    assert answer["ContentType"] == "application/json"
    assert cloud.ask(endpoint, photo) == {"name": model, "bytes": len(photo), "type": "image/jpeg", "env": "plain"}
    assert cloud.ask(endpoint, b"{}", ContentType="application/json")["type"] == "application/json"
    lines = cloud.lines(f"/aws/sagemaker/Endpoints/{endpoint}", "v0/")
    assert lines[0].startswith("serving ")
    cloud.sagemaker.delete_endpoint(EndpointName=endpoint)
    wait_for(lambda: cloud.sagemaker.list_endpoints(NameContains=endpoint)["Endpoints"], lambda found: not found)
    with pytest.raises(
        ClientError, match=f'Could not find endpoint "arn:aws:sagemaker:us-east-1:.*:endpoint/{endpoint}"'
    ):
        cloud.sagemaker.describe_endpoint(EndpointName=endpoint)
    with pytest.raises(ClientError, match="not found") as caught:
        cloud.ask(endpoint)
    assert refused(caught) == ("ValidationError", 400)


def test_an_update_goes_over_without_a_gap(cloud: Cloud) -> None:
    first, second = cloud.model(), cloud.model()
    endpoint = cloud.deploy(cloud.config(first))
    cloud.settled(endpoint)
    names, stop = set(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            names.add(cloud.ask(endpoint)["name"])

    asking = threading.Thread(target=ask)
    asking.start()
    config = cloud.config(second)
    cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        cloud.sagemaker.delete_endpoint(EndpointName=endpoint)
    described = cloud.settled(endpoint)
    wait_for(lambda: names, lambda found: second in found)
    stop.set()
    asking.join()
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", config)
    assert names <= {first, second}
    assert cloud.ask(endpoint)["name"] == second


def test_an_update_that_fails_leaves_what_serves(cloud: Cloud) -> None:
    good = cloud.model()
    config = cloud.config(good)
    endpoint = cloud.deploy(config)
    cloud.settled(endpoint)
    broken = cloud.config(cloud.model(broken=True))
    cloud.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=broken)
    described = cloud.settled(endpoint)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", config)
    assert "did not pass the ping health check" in described["FailureReason"]
    assert cloud.ask(endpoint)["name"] == good


def test_a_model_that_does_not_start(cloud: Cloud) -> None:
    endpoint = cloud.deploy(cloud.config(cloud.model(broken=True)))
    described = cloud.settled(endpoint)
    assert described["EndpointStatus"] == "Failed"
    assert "ended with exit code 1: the model is broken" in described["FailureReason"]
    with pytest.raises(ClientError, match="not found"):
        cloud.ask(endpoint)
    cloud.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_a_program_that_dies_is_started_again(cloud: Cloud) -> None:
    endpoint = cloud.deploy(cloud.config(cloud.model()))
    cloud.settled(endpoint)
    before = cloud.ask(endpoint, b"pid")
    os.kill(before, signal.SIGKILL)
    found = wait_for(lambda: tried(cloud, endpoint), lambda pid: pid not in {None, before})
    assert found
    with pytest.raises(ClientError, match="broke off") as caught:
        cloud.ask(endpoint, b"die")
    assert refused(caught) == ("ModelError", 424)


def tried(cloud: Cloud, endpoint: str) -> int | None:
    try:
        pid: int = cloud.ask(endpoint, b"pid")
        return pid
    except ClientError:
        return None


def test_what_the_model_refuses(cloud: Cloud) -> None:
    endpoint = cloud.deploy(cloud.config(cloud.model()))
    cloud.settled(endpoint)
    with pytest.raises(ClientError, match=r"Received client error \(422\) from primary") as caught:
        cloud.ask(endpoint, b"bad photo")
    assert refused(caught) == ("ModelError", 424)
    assert caught.value.response["OriginalStatusCode"] == 422
    assert caught.value.response["OriginalMessage"] == '{"error": "no photo"}'


def test_bodies_have_a_limit(cloud: Cloud) -> None:
    model = cloud.model()
    endpoint, serverless = cloud.deploy(cloud.config(model)), cloud.deploy(cloud.config(model, serverless=True))
    cloud.settled(endpoint)
    cloud.settled(serverless)
    assert cloud.ask(endpoint, b"x" * 6_291_456)["bytes"] == 6_291_456
    for name, size in ((endpoint, 6_291_457), (serverless, 4_194_305)):
        with pytest.raises(ClientError, match="length exceeded") as caught:
            cloud.ask(name, b"x" * size)
        assert refused(caught) == ("413", 413)


@pytest.mark.slow
def test_serverless_takes_so_many_at_once(cloud: Cloud) -> None:
    endpoint = cloud.deploy(cloud.config(cloud.model(slow_s=8), serverless=True))
    described = cloud.settled(endpoint)
    assert described["ProductionVariants"][0]["CurrentServerlessConfig"]["MaxConcurrency"] == 1
    slow = threading.Thread(target=lambda: wait_for(lambda: refusal(cloud, endpoint, b"slow"), lambda code: not code))
    slow.start()
    wait_for(lambda: refusal(cloud, endpoint), lambda code: code == "ThrottlingException", 15)
    slow.join()


def refusal(cloud: Cloud, endpoint: str, body: bytes = b"photo") -> str:
    try:
        cloud.ask(endpoint, body)
    except ClientError as error:
        code: str = error.response["Error"]["Code"]
        return code
    return ""


def test_variants_can_be_chosen(cloud: Cloud) -> None:
    models = [cloud.model(), cloud.model()]
    endpoint = cloud.deploy(cloud.config(*models))
    cloud.settled(endpoint)
    assert [cloud.ask(endpoint, TargetVariant=f"v{place}")["name"] for place in (0, 1)] == models
    with pytest.raises(ClientError, match="Variant v9 not found"):
        cloud.ask(endpoint, TargetVariant="v9")


def test_names_are_taken_once(cloud: Cloud) -> None:
    model = cloud.model()
    config = cloud.config(model)
    endpoint = cloud.deploy(config)
    with pytest.raises(ClientError, match=f'Cannot create already existing endpoint "arn:.*endpoint/{endpoint}"'):
        cloud.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    with pytest.raises(ClientError, match=r'Could not find endpoint configuration "arn:.*endpoint-config/nowhere"'):
        cloud.sagemaker.create_endpoint(EndpointName=unique("endpoint"), EndpointConfigName="nowhere")
    with pytest.raises(ClientError, match=f'Cannot create already existing model "arn:.*model/{model}"'):
        cloud.model(model)
    cloud.settled(endpoint)


def test_the_bucket_is_asked_for_the_model(cloud: Cloud) -> None:
    container = {"Image": "image:1", "ModelDataUrl": "s3://bintally/no/model.tar.gz"}
    with pytest.raises(ClientError, match=r"Could not find model data at s3://bintally/no/model\.tar\.gz"):
        cloud.sagemaker.create_model(ModelName=unique("model"), PrimaryContainer=container, ExecutionRoleArn=ROLE)


def test_a_model_in_a_folder(cloud: Cloud) -> None:
    cloud.put("plain/model.json", '{"name": "plain"}')
    source = {"S3DataType": "S3Prefix", "CompressionType": "None", "S3Uri": "s3://bintally/plain/"}
    name = unique("model")
    container = {"Image": "image:1", "ModelDataSource": {"S3DataSource": source}}
    cloud.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    endpoint = cloud.deploy(cloud.config(name))
    assert cloud.settled(endpoint)["EndpointStatus"] == "InService"
    assert cloud.ask(endpoint)["name"] == "plain"
