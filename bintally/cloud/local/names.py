"""Names, ARNs, tags and lists: what every kind of thing that the service keeps has in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bintally.cloud.local.state import Record, State
from bintally.cloud.local.wire import ServiceError, page, validation

_MOST_TAGS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of thing.

    Attributes:
        state: its folder in the state, and its word in ARNs.
        member: what its members' names begin with, such as "TrainingJob".
        summary: the members of its list entries.
        list_name: of the list in the answer of its List operation.
    """

    state: str
    member: str
    summary: tuple[str, ...]
    list_name: str

    @property
    def name(self) -> str:
        """The member with its name."""
        return f"{self.member}Name"

    @property
    def arn(self) -> str:
        """The member with its ARN."""
        return f"{self.member}Arn"

    @property
    def status(self) -> str:
        """The member with its status."""
        return f"{self.member}Status"


TRAINING = Kind(
    state="training-job",
    member="TrainingJob",
    list_name="TrainingJobSummaries",
    summary=(
        *("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime"),
        *("TrainingJobStatus", "SecondaryStatus"),
    ),
)
TUNING = Kind(
    state="hyper-parameter-tuning-job",
    member="HyperParameterTuningJob",
    list_name="HyperParameterTuningJobSummaries",
    summary=(
        *("HyperParameterTuningJobName", "HyperParameterTuningJobArn", "HyperParameterTuningJobStatus", "Strategy"),
        *("CreationTime", "HyperParameterTuningEndTime", "LastModifiedTime", "TrainingJobStatusCounters"),
        *("ObjectiveStatusCounters", "ResourceLimits"),
    ),
)
MODEL = Kind(state="model", member="Model", list_name="Models", summary=("ModelName", "ModelArn", "CreationTime"))
CONFIG = Kind(
    state="endpoint-config",
    member="EndpointConfig",
    list_name="EndpointConfigs",
    summary=("EndpointConfigName", "EndpointConfigArn", "CreationTime"),
)
ENDPOINT = Kind(
    state="endpoint",
    member="Endpoint",
    list_name="Endpoints",
    summary=("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus"),
)
TRANSFORM = Kind(
    state="transform-job",
    member="TransformJob",
    list_name="TransformJobSummaries",
    summary=(
        *("TransformJobName", "TransformJobArn", "CreationTime", "TransformEndTime", "LastModifiedTime"),
        *("TransformJobStatus", "FailureReason"),
    ),
)
KINDS = (TRAINING, TUNING, MODEL, CONFIG, ENDPOINT, TRANSFORM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the service says it is: in every ARN."""

    region: str = "us-east-1"
    account: str = "000000000000"

    def arn(self, kind: Kind, name: str) -> str:
        """The ARN of a thing."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind.state}/{name.lower()}"


def list_page(
    state: State, kind: Kind, params: dict[str, Any], records: list[Record] | None = None
) -> dict[str, Any]:
    """The answer of a kind's List operation: filtered, sorted, one page of it.

    Args:
        state: where the things are.
        kind: of the things.
        params: the request's.
        records: the things to choose from; all of the kind by default.
    """
    found = state.all(kind.state) if records is None else records
    tests: list[Callable[[Record], bool]] = []
    if text := params.get("NameContains"):
        tests.append(lambda one: text.lower() in one[kind.name].lower())
    if status := params.get("StatusEquals"):
        tests.append(lambda one: bool(one.get(kind.status) == status))
    for member in ("CreationTime", "LastModifiedTime"):
        if (after := params.get(f"{member}After")) is not None:
            tests.append(lambda one, member=member, after=after: one.get(member, 0) > after)  # type: ignore[misc]
        if (before := params.get(f"{member}Before")) is not None:
            tests.append(lambda one, member=member, before=before: one.get(member, 0) < before)  # type: ignore[misc]
    found = [one for one in found if all(test(one) for test in tests)]
    by = {"Name": kind.name, "Status": kind.status}.get(
        params.get("SortBy", ""), params.get("SortBy", "CreationTime")
    )
    order = params.get("SortOrder", "Descending" if by == "CreationTime" else "Ascending")
    found.sort(key=lambda one: (one.get(by, 0), one[kind.name]), reverse=order == "Descending")
    rows = [{key: one[key] for key in kind.summary if key in one} for one in found]
    return page(rows, params, kind.list_name, size="MaxResults", goes_on="NextToken", most=10)


class Tags:
    """The tags of everything, kept with each record."""

    def __init__(self, state: State) -> None:
        self._state = state

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on tags."""
        return {
            ("sagemaker", "AddTags"): self._add,
            ("sagemaker", "ListTags"): self._list,
            ("sagemaker", "DeleteTags"): self._delete,
        }

    def _find(self, arn: str) -> tuple[Kind, Record]:
        for kind in KINDS:
            for record in self._state.all(kind.state):
                if record[kind.arn] == arn:
                    return kind, record
        raise validation(f"Could not find resource {arn}: only things that exist can be tagged.")

    def _add(self, params: dict[str, Any]) -> dict[str, Any]:
        kind, record = self._find(params["ResourceArn"])
        tags = {one["Key"]: one["Value"] for one in [*record.get("_tags", []), *params["Tags"]]}
        if len(tags) > _MOST_TAGS:
            raise ServiceError("ResourceLimitExceeded", f"A resource has at most {_MOST_TAGS} tags.")
        kept = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._state.change(kind.state, record[kind.name], _tags=kept)
        return {"Tags": kept}

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        _, record = self._find(params["ResourceArn"])
        return page(record.get("_tags", []), params, "Tags", size="MaxResults", goes_on="NextToken", most=50)

    def _delete(self, params: dict[str, Any]) -> dict[str, Any]:
        kind, record = self._find(params["ResourceArn"])
        kept = [one for one in record.get("_tags", []) if one["Key"] not in params["TagKeys"]]
        self._state.change(kind.state, record[kind.name], _tags=kept)
        return {}
