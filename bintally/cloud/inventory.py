"""What bintally has made with the service, by its tag: the only way it knows what is its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bintally.cloud.jobs import UNDER_WAY
from bintally.cloud.options import TAG, CloudSettings
from bintally.cloud.service import Service
from bintally.progress import Progress, Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """One sort of thing that the service keeps.

    Attributes:
        name: in our words.
        member: in the service's, as in `List<member>s` and `<member>Name`.
        field: of the list in the answer.
        is_job: whether it ends by itself and leaves a record behind.
        can_go: whether the service has a way to remove it; the record of a batch stays.
    """

    name: str
    member: str
    field: str
    is_job: bool = False
    can_go: bool = True


# In the order in which they are taken down: nothing is removed before what uses it.
SORTS = (
    Sort(name="tuning", member="HyperParameterTuningJob", field="HyperParameterTuningJobSummaries", is_job=True),
    Sort(name="training", member="TrainingJob", field="TrainingJobSummaries", is_job=True),
    Sort(name="batch", member="TransformJob", field="TransformJobSummaries", is_job=True, can_go=False),
    Sort(name="endpoint", member="Endpoint", field="Endpoints"),
    Sort(name="configuration", member="EndpointConfig", field="EndpointConfigs"),
    Sort(name="model", member="Model", field="Models"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Something that bears bintally's tag.

    Attributes:
        sort: of `SORTS`.
        name: as given to the service.
        arn: the service's full name for it.
        status: the service's word; empty for what has none (configurations and models).
        created: when.
    """

    sort: Sort
    name: str
    arn: str
    status: str = ""
    created: datetime | None = None

    @property
    def runs(self) -> bool:
        """Whether it is at work, and costs by the hour."""
        return self.status in UNDER_WAY or (self.sort.name == "endpoint" and self.status != "Failed")

    def row(self) -> dict[str, Any]:
        """As JSON."""
        created = self.created.astimezone(UTC).isoformat(timespec="seconds") if self.created else None
        return {"sort": self.sort.name, "name": self.name, "status": self.status, "created": created, "arn": self.arn}


def list_things(
    service: Service, settings: CloudSettings, *, days: float = 30, progress: Progress | None = None
) -> list[Thing]:
    """Everything that bears the project's tag, in the order of `SORTS`, newest first.

    Args:
        service: where to look.
        settings: the project.
        days: how far back jobs are looked at; those that still run are found whatever their age. Endpoints,
            configurations and models have no such limit.
        progress: told of what was looked at; accounts have thousands of jobs.

    Raises:
        CloudError: and its kinds: the service refuses to list, or to say the tags of something.
    """
    progress = progress or Silent()
    progress.begin("looking for the tag")
    try:
        found: list[Thing] = []
        for sort in SORTS:
            for thing in _listed(service, sort, days):
                progress.advance(note=sort.name)
                if is_ours(service, thing.arn, settings):
                    found.append(thing)
        return found
    finally:
        progress.end()


def is_ours(service: Service, arn: str, settings: CloudSettings) -> bool:
    """Whether something bears the project's tag. Not, when it has gone meanwhile."""
    request: dict[str, Any] = {"ResourceArn": arn}
    while True:
        answer = service.find("ListTags", **request)
        if answer is None:
            return False
        for tag in answer.get("Tags", ()):
            if tag["Key"] == TAG:
                return bool(tag["Value"] == settings.project)
        if not answer.get("NextToken"):
            return False
        request["NextToken"] = answer["NextToken"]


def _listed(service: Service, sort: Sort, days: float) -> Iterator[Thing]:
    operation = f"List{sort.member}s"
    if not sort.is_job:
        for one in service.every(operation, sort.field, MaxResults=100):
            yield _thing(sort, one)
        return
    since = datetime.now(UTC) - timedelta(days=days)
    seen = set()
    running = service.every(operation, sort.field, StatusEquals="InProgress", MaxResults=100)
    stopping = service.every(operation, sort.field, StatusEquals="Stopping", MaxResults=100)
    recent = service.every(operation, sort.field, CreationTimeAfter=since, MaxResults=100)
    for part in (running, stopping, recent):
        for one in part:
            thing = _thing(sort, one)
            if thing.name not in seen:
                seen.add(thing.name)
                yield thing


def _thing(sort: Sort, told: Mapping[str, Any]) -> Thing:
    return Thing(
        sort=sort,
        name=str(told[f"{sort.member}Name"]),
        arn=str(told[f"{sort.member}Arn"]),
        status=str(told.get(f"{sort.member}Status", "")),
        created=told.get("CreationTime"),
    )


def machines_of(service: Service, thing: Thing) -> list[tuple[str, str, int]]:
    """The machines at work for something: what, instance type, how many. A tuning's are those of its trainings.

    Raises:
        CloudError: and its kinds: the service refuses to say.
    """
    if thing.sort.name not in {"training", "batch", "endpoint"}:
        return []
    told = service.find(f"Describe{thing.sort.member}", **{f"{thing.sort.member}Name": thing.name})
    if told is None:
        return []
    what = f"{thing.sort.name} {thing.name}"
    if thing.sort.name == "endpoint":
        config = service.call("DescribeEndpointConfig", EndpointConfigName=told["EndpointConfigName"])
        now = {one["VariantName"]: one.get("CurrentInstanceCount") for one in told.get("ProductionVariants", ())}
        return [
            (what, one["InstanceType"], now.get(one["VariantName"]) or one.get("InitialInstanceCount", 1))
            for one in config["ProductionVariants"]
            if "InstanceType" in one
        ]
    machines = told["ResourceConfig" if thing.sort.name == "training" else "TransformResources"]
    return [(what, machines["InstanceType"], int(machines.get("InstanceCount", 1)))]
