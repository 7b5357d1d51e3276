"""Autoscaling of endpoints: targets and policies are recorded and told, and change nothing on one machine."""

import uuid
from typing import Any

from bintally.cloud.local.names import ENDPOINT
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import now
from bintally.cloud.local.wire import ServiceError, page, validation

_SERVICE = "application-autoscaling"
_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


class Scaling:
    """Every scalable target and policy: the record "targets" and the record "policies" of the state."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on them."""
        return {
            (_SERVICE, "RegisterScalableTarget"): self._register,
            (_SERVICE, "DescribeScalableTargets"): self._targets,
            (_SERVICE, "DeregisterScalableTarget"): self._deregister,
            (_SERVICE, "PutScalingPolicy"): self._put_policy,
            (_SERVICE, "DescribeScalingPolicies"): self._policies,
            (_SERVICE, "DeleteScalingPolicy"): self._delete_policy,
            (_SERVICE, "DescribeScalingActivities"): lambda params: {"ScalingActivities": []},
        }

    def _all(self, what: str) -> list[dict[str, Any]]:
        record = self._shared.state.get("scaling", what) or {}
        found: list[dict[str, Any]] = record.get("items", [])
        return found

    def _keep(self, what: str, items: list[dict[str, Any]]) -> None:
        if self._shared.state.get("scaling", what) is None:
            self._shared.state.add(
                "scaling", what, {"items": items}, lambda: ServiceError("ConcurrentUpdateException", "")
            )
        else:
            self._shared.state.change("scaling", what, items=items)

    def _arn(self, what: str) -> str:
        place = self._shared.place
        return f"arn:aws:application-autoscaling:{place.region}:{place.account}:{what}/{uuid.uuid4()}"

    def _register(self, params: dict[str, Any]) -> dict[str, Any]:
        parts = params["ResourceId"].split("/")
        if params["ServiceNamespace"] == "sagemaker":
            endpoint = self._shared.state.get(ENDPOINT.state, parts[1]) if len(parts) == 4 else None
            names = [one["VariantName"] for one in endpoint["_variants"]] if endpoint else []
            if parts[0] != "endpoint" or len(parts) != 4 or parts[2] != "variant" or parts[3] not in names:
                raise validation(f"Resource not found: {params['ResourceId']}: write endpoint/<name>/variant/<name>.")
        targets = self._all("targets")
        old = next((one for one in targets if _same(one, params)), None)
        new = {"CreationTime": now(), "RoleARN": _ROLE.format(self._shared.place.account), **(old or {}), **params}
        new.pop("Tags", None)
        if old is None and not {"MinCapacity", "MaxCapacity"} <= params.keys():
            raise validation("A new scalable target needs MinCapacity and MaxCapacity.")
        if new["MinCapacity"] > new["MaxCapacity"]:
            raise validation("Maximum capacity cannot be less than minimum capacity")
        new.setdefault("ScalableTargetARN", self._arn("scalable-target"))
        new.setdefault(
            "SuspendedState",
            {
                "DynamicScalingInSuspended": False,
                "DynamicScalingOutSuspended": False,
                "ScheduledScalingSuspended": False,
            },
        )
        self._keep("targets", [*(one for one in targets if one is not old), new])
        return {"ScalableTargetARN": new["ScalableTargetARN"]}

    def _targets(self, params: dict[str, Any]) -> dict[str, Any]:
        ids = params.get("ResourceIds")
        found = [
            one
            for one in self._all("targets")
            if one["ServiceNamespace"] == params["ServiceNamespace"]
            and (ids is None or one["ResourceId"] in ids)
            and params.get("ScalableDimension") in {None, one["ScalableDimension"]}
        ]
        return page(found, params, "ScalableTargets", size="MaxResults", goes_on="NextToken", most=50)

    def _target(self, params: dict[str, Any]) -> dict[str, Any]:
        for one in self._all("targets"):
            if _same(one, params):
                return one
        namespace, resource, dimension = (params[key] for key in _KEY)
        raise ServiceError(
            "ObjectNotFoundException",
            f"No scalable target registered for service namespace: {namespace}, resource ID: {resource}, "
            f"scalable dimension: {dimension}",
        )

    def _deregister(self, params: dict[str, Any]) -> dict[str, Any]:
        self._target(params)
        for what in ("targets", "policies"):
            self._keep(what, [one for one in self._all(what) if not _same(one, params)])
        return {}

    def _put_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        self._target(params)
        policies = self._all("policies")
        old = next(
            (one for one in policies if _same(one, params) and one["PolicyName"] == params["PolicyName"]), None
        )
        new = {"CreationTime": now(), "Alarms": [], **(old or {}), **params}
        new.setdefault("PolicyType", "StepScaling")
        new.setdefault("PolicyARN", self._arn("scaling-policy"))
        self._keep("policies", [*(one for one in policies if one is not old), new])
        return {"PolicyARN": new["PolicyARN"], "Alarms": []}

    def _policies(self, params: dict[str, Any]) -> dict[str, Any]:
        names = params.get("PolicyNames")
        found = [
            one
            for one in self._all("policies")
            if one["ServiceNamespace"] == params["ServiceNamespace"]
            and (names is None or one["PolicyName"] in names)
            and params.get("ResourceId") in {None, one["ResourceId"]}
            and params.get("ScalableDimension") in {None, one["ScalableDimension"]}
        ]
        return page(found, params, "ScalingPolicies", size="MaxResults", goes_on="NextToken", most=10)

    def _delete_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        policies = self._all("policies")
        left = [one for one in policies if not (_same(one, params) and one["PolicyName"] == params["PolicyName"])]
        if len(left) == len(policies):
            raise ServiceError("ObjectNotFoundException", f"No scaling policy found: {params['PolicyName']}")
        self._keep("policies", left)
        return {}


def _same(one: dict[str, Any], params: dict[str, Any]) -> bool:
    return all(one[key] == params[key] for key in _KEY)


_ROLE = (
    "arn:aws:iam::{}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)
