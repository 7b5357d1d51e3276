from typing import Any

import pytest
from botocore.validate import ParamValidator

from bintally.cloud.local.checks import read_params, service_model
from bintally.cloud.local.wire import ServiceError
from tests.cloud.local.running import training


def refusal(body: Any, operation: str = "CreateTrainingJob", service: str = "sagemaker") -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        read_params(service, operation, body)
    return caught.value


def test_what_fits_is_taken_as_it_is() -> None:
    request = training("job")
    assert read_params("sagemaker", "CreateTrainingJob", request) == request


def test_unknown_members_and_nulls_are_left_out() -> None:
    request = training("job")
    assert read_params("sagemaker", "CreateTrainingJob", {**request, "New": 1, "Tags": None}) == request


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"TrainingJobName": None},
            "1 validation error detected: Value null at 'trainingJobName' failed to satisfy constraint: "
            "Member must not be null",
        ),
        (
            {"TrainingJobName": "a_b"},
            "1 validation error detected: Value 'a_b' at 'trainingJobName' failed to satisfy constraint: Member must "
            "satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}",
        ),
        ({"TrainingJobName": "a" * 64}, "Member must have length less than or equal to 63"),
        ({"TrainingJobName": ""}, "Member must have length greater than or equal to 1"),
        (
            {"InputDataConfig": [{"ChannelName": "a b", "DataSource": {}}]},
            "Value 'a b' at 'inputDataConfig.1.member.channelName' failed",
        ),
        (
            {"ResourceConfig": {"InstanceType": "ml.huge", "InstanceCount": 1}},
            "Member must satisfy enum value set: [ml.",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 0}}, "Member must have value greater than or equal to 1"),
        ({"HyperParameters": {"a": "x" * 2501}}, "Map value must satisfy constraint: [Member must have length less"),
        ({"HyperParameters": {str(n): "1" for n in range(101)}}, "Member must have length less than or equal to 100"),
        ({"Tags": [{"Key": "a!", "Value": "b"}]}, "'tags.1.member.key'"),
    ],
)
def test_what_does_not_is_named(change: dict[str, Any], says: str) -> None:
    error = refusal(training("job") | change)
    assert error.code == "ValidationException"
    assert says in error.message


def test_all_problems_are_told_at_once() -> None:
    assert refusal({}).message.startswith("3 validation errors detected: ")


@pytest.mark.parametrize(
    "change",
    [
        {"TrainingJobName": 3},
        {"HyperParameters": {"epochs": 3}},
        {"HyperParameters": []},
        {"InputDataConfig": {}},
        {"EnableManagedSpotTraining": "yes"},
        {"StoppingCondition": {"MaxRuntimeInSeconds": "60"}},
        {"StoppingCondition": {"MaxRuntimeInSeconds": True}},
        {"StoppingCondition": 3},
    ],
)
def test_other_types_are_another_refusal(change: dict[str, Any]) -> None:
    assert refusal(training("job") | change).code == "SerializationException"


def test_unknown_operations() -> None:
    assert refusal({}, "CreateWonder").code == "UnknownOperationException"


def test_tags_may_be_of_any_script() -> None:
    tags = [{"Key": "bintally:project", "Value": "Лагер 3 – 東京".replace("–", "-")}]
    assert read_params("sagemaker", "CreateTrainingJob", training("job") | {"Tags": tags})["Tags"] == tags


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("CreateTrainingJob", {}),
        ("CreateTrainingJob", training("job") | {"RoleArn": ""}),
        ("CreateTrainingJob", training("job") | {"StoppingCondition": {"MaxRuntimeInSeconds": 0}}),
        ("CreateEndpoint", {"EndpointName": "a"}),
        ("CreateModel", {"ModelName": 3}),
        ("ListTrainingJobs", {"MaxResults": 0}),
        ("AddTags", {"ResourceArn": "arn", "Tags": [{"Key": "k"}]}),
        ("CreateTransformJob", {"TransformJobName": "x", "TransformInput": {}}),
    ],
)
def test_whatever_the_clients_own_validation_refuses_is_refused(operation: str, body: dict[str, Any]) -> None:
    shape = service_model("sagemaker").operation_model(operation).input_shape
    assert ParamValidator().validate(body, shape).has_errors()
    refusal(body, operation)
