import pytest
from botocore.stub import Stubber

from bintally.cloud.options import CloudSettings
from bintally.cloud.service import Service
from bintally.errors import CloudAccessError, CloudError, CloudLimitError, SettingsError
from tests.cloud.stand_in import Refusal, StandIn

MODEL = {"ModelName": "m", "PrimaryContainer": {"Image": "i"}, "ExecutionRoleArn": "arn:aws:iam::123456789012:role/x"}
ARN = {"ModelArn": "arn:aws:sagemaker:us-east-1:123456789012:model/m"}
SLOW = Refusal("ThrottlingException", "Rate exceeded")


def test_a_busy_service_is_asked_again(stand_in: StandIn, settings: CloudSettings) -> None:
    stand_in.answers["CreateModel"] = [SLOW, ARN]
    heard: list[str] = []
    assert Service(settings, heard.append).call("CreateModel", **MODEL)["ModelArn"] == ARN["ModelArn"]
    assert stand_in.names() == ["CreateModel"] * 2
    assert heard == ["the service asks to slow down (ThrottlingException): waiting, then trying again"]


def test_but_not_for_ever(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["CreateModel"] = [SLOW]
    with pytest.raises(CloudLimitError, match="asked to slow down 2 times"):
        service.call("CreateModel", **MODEL)
    assert len(stand_in.calls) == 2


def test_a_refusal_is_not_asked_again(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["CreateModel"] = [Refusal("AccessDeniedException", "no", 400)]
    with pytest.raises(CloudAccessError):
        service.create("CreateModel", MODEL)
    assert len(stand_in.calls) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", CloudLimitError),
        ("AccessDeniedException", CloudAccessError),
        ("ResourceLimitExceeded", CloudLimitError),
        ("InsufficientInstanceCapacity", CloudLimitError),
        ("ExpiredTokenException", CloudAccessError),
    ],
)
def test_refusals_of_a_stubbed_client(service: Service, code: str, kind: type[Exception]) -> None:
    with Stubber(service.client("sagemaker")) as stub:
        stub.add_client_error("create_model", code, "because", http_status_code=400)
        with pytest.raises(kind, match="CreateModel"):
            service.call("CreateModel", **MODEL)


def test_a_name_that_an_earlier_attempt_has_taken_is_ours(stand_in: StandIn, service: Service) -> None:
    # The first answer is lost on the way (a 500 after the work was done); the second attempt finds the name taken.
    stand_in.answers["CreateModel"] = [Refusal("InternalFailure", "", 500), Refusal("ResourceInUse", "exists")]
    assert service.create("CreateModel", MODEL)
    stand_in.answers["CreateModel"] = [Refusal("ResourceInUse", "exists")]
    with pytest.raises(CloudError, match="another name"):
        service.create("CreateModel", MODEL)


def test_finding_and_not_finding(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["DescribeModel"] = [Refusal("ValidationException", "Could not find model m"), {"ModelName": "m"}]
    assert service.find("DescribeModel", ModelName="m") is None
    found = service.find("DescribeModel", ModelName="m")
    assert found is not None
    assert found["ModelName"] == "m"
    stand_in.answers["DescribeModel"] = [Refusal("AccessDeniedException", "no")]
    with pytest.raises(CloudAccessError):
        service.find("DescribeModel", ModelName="m")


def test_pages(stand_in: StandIn, service: Service) -> None:
    stand_in.answers["ListModels"] = [
        {"Models": [{"ModelName": "a"}], "NextToken": "t"},
        {"Models": [{"ModelName": "b"}]},
    ]
    assert [one["ModelName"] for one in service.every("ListModels", "Models", MaxResults=1)] == ["a", "b"]
    assert stand_in.of("ListModels") == [{"MaxResults": 1}, {"MaxResults": 1, "NextToken": "t"}]


def test_no_credentials(stand_in: StandIn, settings: CloudSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CloudAccessError, match="ListModels: there are no AWS credentials"):
        Service(settings).call("ListModels")
    assert not stand_in.calls


def test_no_region(stand_in: StandIn, settings: CloudSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(SettingsError, match="no region is set"):
        Service(settings)
    assert stand_in.url


def test_nobody_there(stand_in: StandIn, settings: CloudSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    service = Service(settings)
    with pytest.raises(CloudError, match="cannot be reached") as caught:
        service.call("ListModels")
    assert not service.reachable(caught.value)


def test_where_it_is(
    service: Service, stand_in: StandIn, settings: CloudSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.is_here
    assert service.address == stand_in.url
    monkeypatch.delenv("AWS_ENDPOINT_URL_SAGEMAKER")
    there = Service(settings)
    assert not there.is_here
    assert "amazonaws.com" in there.address
    assert there.region == "us-east-1"
