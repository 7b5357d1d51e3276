from typing import Any

import pytest

from bintally.cloud.follow import Clock
from bintally.cloud.options import CloudSettings
from bintally.cloud.requests import HostingWish, batch_request, hosting_requests, model_request
from bintally.cloud.sagemaker import (
    as_update,
    complete,
    deploy,
    existing_endpoint,
    making_batch,
    model_of,
    start,
    training_of,
    trials_of,
    unmake_model,
)
from bintally.cloud.service import Service
from bintally.errors import CloudAccessError, CloudError, CloudLimitError, JobFailedError, SettingsError, UsageError
from tests.cloud.stand_in import Refusal, StandIn

WISH = HostingWish(endpoint="e", model="m", config="c", model_uri="s3://the-bucket/model.tar.gz")
MISSING = Refusal("ValidationException", "Could not find it")
BROKEN = Refusal("ServiceUnavailable", "", 503)
OURS = {"Tags": [{"Key": "bintally:project", "Value": "bintally"}]}
ARN = "arn:aws:sagemaker:us-east-1:123456789012:x/y"


def endpoint(status: str, config: str = "c", **more: Any) -> dict[str, Any]:
    told = {"EndpointName": "e", "EndpointArn": ARN, "EndpointStatus": status, "EndpointConfigName": config}
    return told | {"ProductionVariants": [{"VariantName": "AllTraffic"}], "CreationTime": 1_000_000.0} | more


def test_further_fields_are_merged_and_checked(settings: CloudSettings) -> None:
    plan = hosting_requests(WISH, settings)
    made = dict(complete(plan, {"CreateModel": {"EnableNetworkIsolation": True}}))
    assert made["CreateModel"]["EnableNetworkIsolation"] is True
    capture = {"EnableCapture": True, "InitialSamplingPercentage": 10, "DestinationS3Uri": "s3://the-bucket/capture"}
    with pytest.raises(SettingsError, match=r"CreateEndpointConfig: DataCaptureConfig.CaptureOptions is missing"):
        complete(plan, {"CreateEndpointConfig": {"DataCaptureConfig": capture}})
    whole = {**capture, "CaptureOptions": [{"CaptureMode": "Input"}]}
    assert dict(complete(plan, {"CreateEndpointConfig": {"DataCaptureConfig": whole}}))["CreateEndpointConfig"][
        "DataCaptureConfig"
    ]
    with pytest.raises(SettingsError, match="did you mean 'CreateModel'"):
        complete(plan, {"CreateModl": {}})
    with pytest.raises(SettingsError, match=r"\[DeleteModel\]: bintally sends no such request"):
        complete(plan, {"DeleteModel": {}})
    with pytest.raises(UsageError, match="bintally's own mark"):
        complete(plan, {"CreateModel": {"Tags": [{"Key": "bintally:project", "Value": "x"}]}})


def test_a_deployment(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    stand_in.answers["DescribeEndpoint"] = [endpoint("Creating"), endpoint("InService")]
    heard: list[str] = []
    state = deploy(service, hosting_requests(WISH, settings), WISH, settings, heard.append, clock=clock)
    assert state.well
    assert [line.split()[-1] for line in heard] == ["Creating", "InService"]
    assert stand_in.names()[:3] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]


@pytest.mark.parametrize(
    ("refused", "undone"),
    [
        ("CreateModel", []),
        ("CreateEndpointConfig", ["DeleteModel"]),
        ("CreateEndpoint", ["DeleteEndpointConfig", "DeleteModel"]),
    ],
)
def test_a_refused_step_leaves_nothing(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock, refused: str, undone: list[str]
) -> None:
    stand_in.answers[refused] = [Refusal("ResourceLimitExceeded", "limit is 0 Instances")]
    with pytest.raises(CloudLimitError, match="quota") as caught:
        deploy(service, hosting_requests(WISH, settings), WISH, settings, lambda _: None, clock=clock)
    assert [name for name in stand_in.names() if name.startswith("Delete")] == undone
    assert ("nothing was made" if not undone else "removed again") in str(caught.value)


def test_what_cannot_be_undone_is_named(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["CreateEndpoint"] = [Refusal("AccessDeniedException", "no")]
    stand_in.answers["DeleteModel"] = [Refusal("AccessDeniedException", "no")]
    with pytest.raises(CloudAccessError, match=r"removed again: configuration c; STILL THERE: model m \(DeleteModel"):
        deploy(service, hosting_requests(WISH, settings), WISH, settings, lambda _: None, clock=clock)


def test_an_endpoint_that_fails_is_removed(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    failed = endpoint("Failed", FailureReason="The container did not pass the ping health check")
    stand_in.answers["DescribeEndpoint"] = [endpoint("Creating"), failed, failed, MISSING]
    with pytest.raises(JobFailedError) as caught:
        deploy(service, hosting_requests(WISH, settings), WISH, settings, lambda _: None, clock=clock)
    assert "ping health check; removed again: endpoint e, configuration c, model m" in str(caught.value)
    assert "/aws/sagemaker/Endpoints/e" in str(caught.value)
    assert [name for name in stand_in.names() if name.startswith("Delete")] == [
        "DeleteEndpoint",
        "DeleteEndpointConfig",
        "DeleteModel",
    ]


def test_or_left_when_that_is_wanted(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["DescribeEndpoint"] = [endpoint("Failed", FailureReason="InsufficientInstanceCapacity")]
    plan = hosting_requests(WISH, settings)
    with pytest.raises(CloudLimitError, match="left as it is: model m, configuration c, endpoint e"):
        deploy(service, plan, WISH, settings, lambda _: None, keep_failed=True, clock=clock)
    assert not [name for name in stand_in.names() if name.startswith("Delete")]


def test_an_interrupt_before_the_endpoint_undoes(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = service.create

    def interrupted(operation: str, request: Any) -> bool:
        if operation == "CreateEndpointConfig":
            real(operation, request)
            raise KeyboardInterrupt
        return real(operation, request)

    monkeypatch.setattr(service, "create", interrupted)
    with pytest.raises(
        CloudError, match="stopped before the endpoint was made; removed again: configuration c, model m"
    ):
        deploy(service, hosting_requests(WISH, settings), WISH, settings, lambda _: None, clock=clock)
    assert "CreateEndpoint" not in stand_in.names()


def test_an_answer_that_never_came_may_have_made_the_endpoint(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    stand_in.answers["CreateEndpoint"] = [BROKEN]
    stand_in.answers["DescribeEndpoint"] = [endpoint("InService"), endpoint("InService"), MISSING]
    with pytest.raises(CloudError, match="removed again: endpoint e, configuration c, model m"):
        deploy(service, hosting_requests(WISH, settings), WISH, settings, lambda _: None, clock=clock)
    assert stand_in.of("DeleteEndpoint") == [{"EndpointName": "e"}]


def existing(stand_in: StandIn) -> None:
    stand_in.answers["DescribeEndpoint"] = [endpoint("InService", "old-c")]
    variant = {"VariantName": "AllTraffic", "ModelName": "old-m"}
    config = {"EndpointConfigName": "old-c", "EndpointConfigArn": ARN + "c", "ProductionVariants": [variant]}
    stand_in.answers["DescribeEndpointConfig"] = [config]
    stand_in.answers["DescribeModel"] = [{"ModelName": "old-m", "ModelArn": ARN + "m"}]
    stand_in.answers["ListTags"] = [OURS]


def test_changing_an_endpoint(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    existing(stand_in)
    before = existing_endpoint(service, "e", settings)
    assert before is not None
    assert [thing.name for thing in before.parts] == ["old-c", "old-m"]
    plan = as_update(hosting_requests(WISH, settings))
    assert plan[-1] == ("UpdateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c"})
    stand_in.answers["DescribeEndpoint"] = [endpoint("Updating", "old-c"), endpoint("InService", "c")]
    deploy(service, plan, WISH, settings, lambda _: None, before=before, clock=clock)
    assert stand_in.of("DeleteEndpointConfig") == [{"EndpointConfigName": "old-c"}]
    assert stand_in.of("DeleteModel") == [{"ModelName": "old-m"}]
    assert not stand_in.of("DeleteEndpoint")


def test_a_change_that_is_rolled_back(
    stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock
) -> None:
    existing(stand_in)
    before = existing_endpoint(service, "e", settings)
    plan = as_update(hosting_requests(WISH, settings))
    stand_in.answers["DescribeEndpoint"] = [endpoint("Updating", "old-c"), endpoint("InService", "old-c")]
    with pytest.raises(JobFailedError, match=r"went back to what it was.*removed again: configuration c, model m"):
        deploy(service, plan, WISH, settings, lambda _: None, before=before, clock=clock)
    assert not stand_in.of("DeleteEndpoint")


def test_an_endpoint_of_others_is_not_touched(stand_in: StandIn, service: Service, settings: CloudSettings) -> None:
    existing(stand_in)
    stand_in.answers["ListTags"] = [{"Tags": []}]
    with pytest.raises(CloudError, match="without the tag of the project bintally"):
        existing_endpoint(service, "e", settings)
    # Ours, with a model that is not: the model is not counted as a part of it.
    stand_in.answers["ListTags"] = [OURS, OURS, {"Tags": []}]
    found = existing_endpoint(service, "e", settings)
    assert found is not None
    assert [thing.name for thing in found.parts] == ["old-c"]
    stand_in.answers["ListTags"] = [OURS]
    stand_in.answers["DescribeEndpoint"] = [endpoint("Updating")]
    with pytest.raises(CloudError, match="is Updating: wait"):
        existing_endpoint(service, "e", settings)
    stand_in.answers["DescribeEndpoint"] = [MISSING]
    assert existing_endpoint(service, "e", settings) is None


def test_not_waiting(stand_in: StandIn, service: Service, settings: CloudSettings, clock: Clock) -> None:
    stand_in.answers["DescribeEndpoint"] = [endpoint("Creating")]
    plan = hosting_requests(WISH, settings)
    assert deploy(service, plan, WISH, settings, lambda _: None, wait=False, clock=clock).status == "Creating"
    stand_in.answers["DescribeEndpoint"] = [Refusal("AccessDeniedException", "no")]
    with pytest.raises(CloudAccessError, match="the endpoint e is being made all the same"):
        deploy(service, plan, WISH, settings, lambda _: None, wait=False, clock=clock)


def test_a_batch_without_its_job_leaves_no_model(
    stand_in: StandIn, service: Service, settings: CloudSettings
) -> None:
    plan = [("CreateModel", {"ModelName": "m"}), ("CreateTransformJob", {})]
    stand_in.answers["CreateTransformJob"] = [Refusal("ResourceLimitExceeded", "limit")]
    # The request is not sent whole here: botocore would refuse it, which undoes as well.
    with pytest.raises(SettingsError, match="removed again: model m"):
        making_batch(service, plan, settings, lambda _: None)
    unmake_model(service, "m", settings, lambda _: None)
    assert stand_in.of("DeleteModel") == [{"ModelName": "m"}] * 2


def test_a_batch_that_may_have_begun_keeps_its_model(
    stand_in: StandIn, service: Service, settings: CloudSettings
) -> None:
    plan = [
        ("CreateModel", model_request("m", "s3://the-bucket/model.tar.gz", settings)),
        ("CreateTransformJob", batch_request("m", "m", "s3://the-bucket/in", "s3://the-bucket/out", settings)),
    ]
    stand_in.answers["CreateTransformJob"] = [Refusal("ResourceLimitExceeded", "limit"), BROKEN]
    with pytest.raises(CloudLimitError, match="removed again: model m"):
        making_batch(service, plan, settings, lambda _: None)
    with pytest.raises(CloudError, match="the service failed 2 times"):
        making_batch(service, plan, settings, lambda _: None)
    assert len(stand_in.of("DeleteModel")) == 1


def test_the_model_of_a_job(stand_in: StandIn, service: Service) -> None:
    done = {
        "TrainingJobName": "t-1",
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/model.tar.gz"},
    }
    stand_in.answers["DescribeTrainingJob"] = [done]
    assert model_of(service, "t-1") == "s3://b/model.tar.gz"
    stand_in.answers["DescribeTrainingJob"] = [MISSING, done]
    tuning = {"HyperParameterTuningJobName": "t", "HyperParameterTuningJobStatus": "Completed"}
    stand_in.answers["DescribeHyperParameterTuningJob"] = [{**tuning, "BestTrainingJob": {"TrainingJobName": "t-1"}}]
    assert training_of(service, "t").name == "t-1"
    stand_in.answers["DescribeTrainingJob"] = [MISSING]
    stand_in.answers["DescribeHyperParameterTuningJob"] = [tuning]
    with pytest.raises(CloudError, match="no best training yet"):
        model_of(service, "t")
    stand_in.answers["DescribeTrainingJob"] = [{**done, "ModelArtifacts": {}, "TrainingJobStatus": "Failed"}]
    with pytest.raises(CloudError, match=r"left no model \(Failed\)"):
        model_of(service, "t-1")


@pytest.mark.parametrize(("aim", "order"), [("Maximize", "Descending"), ("Minimize", "Ascending")])
def test_trials_best_first(stand_in: StandIn, service: Service, aim: str, order: str) -> None:
    objective = {"HyperParameterTuningJobObjective": {"Type": aim, "MetricName": "m"}}
    stand_in.answers["DescribeHyperParameterTuningJob"] = [{"HyperParameterTuningJobConfig": objective}]
    stand_in.answers["ListTrainingJobsForHyperParameterTuningJob"] = [
        {"TrainingJobSummaries": [{"TrainingJobName": "t-2"}, {"TrainingJobName": "t-1"}]}
    ]
    assert [one["TrainingJobName"] for one in trials_of(service, "t")] == ["t-2", "t-1"]
    assert stand_in.of("ListTrainingJobsForHyperParameterTuningJob")[0]["SortOrder"] == order


def test_starting_is_sending(stand_in: StandIn, service: Service) -> None:
    start(service, [("StopTrainingJob", {"TrainingJobName": "a"}), ("StopTrainingJob", {"TrainingJobName": "b"})])
    assert [one["TrainingJobName"] for one in stand_in.of("StopTrainingJob")] == ["a", "b"]
