from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.local.running import Cloud


def test_targets_and_policies_are_recorded(cloud: Cloud) -> None:
    client = cloud.client("application-autoscaling")
    endpoint = cloud.deploy(cloud.config(cloud.model()))
    key: dict[str, Any] = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/v0",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    policy = {
        "PolicyName": "load",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 70.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    }
    with pytest.raises(client.exceptions.ObjectNotFoundException, match="No scalable target registered"):
        client.put_scaling_policy(**key, **policy)
    with pytest.raises(ClientError, match="Maximum capacity cannot be less"):
        client.register_scalable_target(**key, MinCapacity=3, MaxCapacity=1)
    arn = client.register_scalable_target(**key, MinCapacity=1, MaxCapacity=3)["ScalableTargetARN"]
    assert client.register_scalable_target(**key, MaxCapacity=4)["ScalableTargetARN"] == arn
    [target] = client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[key["ResourceId"]])[
        "ScalableTargets"
    ]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    first = client.put_scaling_policy(**key, **policy)["PolicyARN"]
    assert client.put_scaling_policy(**key, **policy)["PolicyARN"] == first
    found = client.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=key["ResourceId"])
    [one] = found["ScalingPolicies"]
    assert one["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 70.0
    assert client.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"] == []
    client.delete_scaling_policy(**key, PolicyName="load")
    with pytest.raises(ClientError, match="No scaling policy found"):
        client.delete_scaling_policy(**key, PolicyName="load")
    client.deregister_scalable_target(**key)
    assert not client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[key["ResourceId"]])[
        "ScalableTargets"
    ]
    with pytest.raises(ClientError, match="Resource not found"):
        client.register_scalable_target(**key | {"ResourceId": "endpoint/no/variant/v"}, MinCapacity=1, MaxCapacity=1)
    cloud.settled(endpoint)
