import botocore.session
import pytest
from botocore.validate import ParamValidator

from bintally.cloud.shapes import check_operation, check_request, merge
from bintally.errors import SettingsError, UsageError

MODEL = {"ModelName": "m", "PrimaryContainer": {"Image": "i"}, "ExecutionRoleArn": "arn:aws:iam::123456789012:role/x"}


def test_a_good_request_passes() -> None:
    check_request("CreateModel", MODEL)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"ModelNam": "x"}, "has no field 'ModelNam'; did you mean 'ModelName'?"),
        ({"ModelName": "no blanks"}, "ModelName = 'no blanks' does not look like"),
        ({"ModelName": "x" * 64}, "ModelName: 64 characters, at most 63"),
        ({"ExecutionRoleArn": "me"}, "ExecutionRoleArn: 2 characters, at least 20"),
        ({"EnableNetworkIsolation": "yes"}, "EnableNetworkIsolation is true or false, not 'yes'"),
        ({"EnableNetworkIsolation": 1}, "EnableNetworkIsolation is true or false, not 1"),
        ({"PrimaryContainer": {"Mode": "Many"}}, "PrimaryContainer.Mode is none of the service's values: 'Many'"),
        ({"VpcConfig": {"Subnets": ["s"]}}, "VpcConfig.SecurityGroupIds is missing"),
        (
            {"VpcConfig": {"Subnets": ["bad subnet"], "SecurityGroupIds": ["g"]}},
            "VpcConfig.Subnets[0] = 'bad subnet'",
        ),
        ({"Tags": [{"Key": "k"}]}, "Tags[0].Value is missing"),
        ({"Tags": {"k": "v"}}, "Tags is a list"),
    ],
)
def test_every_mistake_is_told_by_its_path(fields: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_request("CreateModel", {**MODEL, **fields})
    assert told in str(caught.value)
    assert str(caught.value).startswith("CreateModel: ")


def test_what_is_missing_and_the_number_of_entries() -> None:
    with pytest.raises(SettingsError, match="TransformInput is missing"):
        check_request("CreateTransformJob", {"TransformJobName": "j", "ModelName": "m"})
    many = {f"k{number}": "v" for number in range(101)}
    with pytest.raises(SettingsError, match="HyperParameters: 101 entries, at most 100"):
        check_request(
            "CreateTrainingJob",
            {
                "TrainingJobName": "j",
                "RoleArn": "arn:aws:iam::123456789012:role/x",
                "OutputDataConfig": {"S3OutputPath": "s3://b/x"},
                "HyperParameters": many,
            },
        )


def test_a_listed_value_may_be_newer_than_the_model() -> None:
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.c5.larg", "InitialInstanceCount": 1}
    with pytest.raises(SettingsError, match=r"did you mean 'ml.c5.large'\?; a newer one needs a newer boto3"):
        check_request("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant]})


def test_the_other_service_and_unknown_operations() -> None:
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/e/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    check_request("RegisterScalableTarget", {**target, "MinCapacity": 1, "MaxCapacity": 2})
    with pytest.raises(SettingsError, match="'CreateTrainingJobs'; did you mean 'CreateTrainingJob'"):
        check_operation("CreateTrainingJobs")


@pytest.mark.parametrize("fields", [{"ModelNam": "x"}, {"Tags": [{"Key": "k"}]}, {"EnableNetworkIsolation": "yes"}])
def test_what_botocore_refuses_is_refused(fields: dict[str, object]) -> None:
    shape = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateModel").input_shape
    assert ParamValidator().validate({**MODEL, **fields}, shape).has_errors()
    with pytest.raises(SettingsError):
        check_request("CreateModel", {**MODEL, **fields})


def test_merging_goes_deep_and_by_name() -> None:
    request = {
        "ResourceConfig": {"InstanceType": "a", "InstanceCount": 1},
        "InputDataConfig": [{"ChannelName": "data", "InputMode": "File"}],
        "ProductionVariants": [{"VariantName": "AllTraffic", "InitialInstanceCount": 1}],
        "Tags": [{"Key": "bintally:project", "Value": "p"}],
        "Subnets": ["a"],
    }
    made = merge(
        request,
        {
            "ResourceConfig": {"VolumeKmsKeyId": "k"},
            "InputDataConfig": [{"ChannelName": "extra"}, {"ChannelName": "data", "ShuffleConfig": {"Seed": 1}}],
            "ProductionVariants": [{"RoutingConfig": {"RoutingStrategy": "RANDOM"}}],
            "Tags": [{"Key": "team", "Value": "t"}],
            "Subnets": ["b"],
        },
    )
    assert made["ResourceConfig"] == {"InstanceType": "a", "InstanceCount": 1, "VolumeKmsKeyId": "k"}
    assert made["InputDataConfig"] == [
        {"ChannelName": "data", "InputMode": "File", "ShuffleConfig": {"Seed": 1}},
        {"ChannelName": "extra"},
    ]
    assert made["ProductionVariants"][0]["RoutingConfig"] == {"RoutingStrategy": "RANDOM"}
    assert made["ProductionVariants"][0]["VariantName"] == "AllTraffic"
    assert [tag["Key"] for tag in made["Tags"]] == ["bintally:project", "team"]
    assert made["Subnets"] == ["b"]
    assert "VolumeKmsKeyId" not in request["ResourceConfig"]


@pytest.mark.parametrize("tags", [[{"Key": "bintally:project", "Value": "other"}], "none", []])
def test_the_mark_cannot_be_taken_away(tags: object) -> None:
    with pytest.raises(UsageError, match="bintally:project is bintally's own mark"):
        merge({"Tags": [{"Key": "bintally:project", "Value": "p"}]}, {"Tags": tags})
