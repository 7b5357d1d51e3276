import pytest
from botocore.exceptions import ClientError

from bintally.cloud.local.models import container_of, model_data_of
from bintally.cloud.local.wire import ServiceError
from tests.cloud.local.running import ROLE, Cloud, unique


def test_models_and_configurations(cloud: Cloud) -> None:
    model = cloud.model()
    config = cloud.config(model)
    described = cloud.sagemaker.describe_model(ModelName=model)
    assert described["PrimaryContainer"]["ModelDataUrl"].endswith(f"{model}/model.tar.gz")
    assert described["ModelArn"].endswith(f"model/{model}")
    [variant] = cloud.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    assert (variant["ModelName"], variant["InitialVariantWeight"]) == (model, 1.0)
    assert [one["ModelName"] for one in cloud.sagemaker.list_models(NameContains=model)["Models"]] == [model]
    listed = cloud.sagemaker.list_endpoint_configs(NameContains=config)["EndpointConfigs"]
    assert [one["EndpointConfigName"] for one in listed] == [config]
    with pytest.raises(ClientError, match="Cannot create already existing endpoint configuration"):
        cloud.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=[variant])
    cloud.sagemaker.delete_endpoint_config(EndpointConfigName=config)
    cloud.sagemaker.delete_model(ModelName=model)
    for operation, member, name in (
        ("describe_model", "ModelName", model),
        ("delete_model", "ModelName", model),
        ("describe_endpoint_config", "EndpointConfigName", config),
        ("delete_endpoint_config", "EndpointConfigName", config),
    ):
        with pytest.raises(ClientError, match=r'Could not find .* "arn:aws:sagemaker:') as caught:
            getattr(cloud.sagemaker, operation)(**{member: name})
        assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_what_cannot_be_served_is_refused(cloud: Cloud) -> None:
    model = cloud.model()

    def configure(**variant: object) -> None:
        variants = [{"VariantName": "v", "ModelName": model, **variant}]
        cloud.sagemaker.create_endpoint_config(EndpointConfigName=unique("config"), ProductionVariants=variants)

    with pytest.raises(ClientError, match="either a ServerlessConfig, or an InstanceType"):
        configure()
    with pytest.raises(ClientError, match=r'Could not find model "arn:.*model/nobody"'):
        configure(ModelName="nobody", InstanceType="ml.m5.large", InitialInstanceCount=1)
    with pytest.raises(ClientError, match="serves models of one container"):
        cloud.sagemaker.create_model(
            ModelName=unique("model"), Containers=[{"Image": "a"}, {"Image": "b"}], ExecutionRoleArn=ROLE
        )


def test_where_model_data_lie() -> None:
    source = {"S3Uri": "s3://b/m", "CompressionType": "None", "S3DataType": "S3Prefix"}
    assert model_data_of({"ModelDataSource": {"S3DataSource": source}}) == "s3://b/m/"
    packed = source | {"CompressionType": "Gzip", "S3DataType": "S3Object"}
    assert model_data_of({"ModelDataSource": {"S3DataSource": packed}}) == "s3://b/m"
    assert model_data_of({"ModelDataUrl": "s3://b/m.tar.gz"}) == "s3://b/m.tar.gz"
    with pytest.raises(ServiceError, match="needs a ModelDataUrl"):
        model_data_of({"Image": "a"})
    assert container_of({"Containers": [{"Image": "a"}]}) == {"Image": "a"}
