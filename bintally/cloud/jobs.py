"""Jobs and endpoints as they are: which kinds there are, the state each is in, and how one is stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bintally.cloud.refusals import failure_reason
from bintally.cloud.service import Service
from bintally.errors import BintallyError, CloudError, JobFailedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of thing that the service runs.

    Attributes:
        name: in our words.
        member: in the service's: `Describe<member>`, `<member>Name`, `<member>Status`.
        stop: the operation that ends it; empty for an endpoint, which is removed instead.
        log_group: where its lines go in CloudWatch Logs; "{name}" stands for its name.
    """

    name: str
    member: str
    stop: str
    log_group: str = ""


TRAINING = Kind(
    name="training", member="TrainingJob", stop="StopTrainingJob", log_group="/aws/sagemaker/TrainingJobs"
)
TUNING = Kind(name="tuning", member="HyperParameterTuningJob", stop="StopHyperParameterTuningJob")
BATCH = Kind(name="batch", member="TransformJob", stop="StopTransformJob", log_group="/aws/sagemaker/TransformJobs")
ENDPOINT = Kind(name="endpoint", member="Endpoint", stop="", log_group="/aws/sagemaker/Endpoints/{name}")
KINDS = (TRAINING, TUNING, BATCH, ENDPOINT)

WELL = {"Completed", "InService"}
UNDER_WAY = {"InProgress", "Stopping", "Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting", "Pending"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened to a job.

    Attributes:
        status: the service's word for it, such as "Downloading".
        seconds: after the job was made.
        message: the service's sentence, if it gave one.
    """

    status: str
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a job or an endpoint stands.

    Attributes:
        kind: of `KINDS`.
        name: as given to the service.
        status: the service's word.
        steps: what happened so far, oldest first.
        created: when it was made.
        reason: why it failed.
        told: the service's whole description.
    """

    kind: Kind
    name: str
    status: str
    steps: tuple[Step, ...] = ()
    created: datetime | None = None
    reason: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.status not in UNDER_WAY

    @property
    def well(self) -> bool:
        """Whether it came to a good end."""
        return self.status in WELL

    @property
    def model_uri(self) -> str:
        """Where a training left its model; empty when it has none."""
        return str(self.told.get("ModelArtifacts", {}).get("S3ModelArtifacts", ""))

    @property
    def metrics(self) -> dict[str, float]:
        """The last figures that the service read off a training's log."""
        return {one["MetricName"]: float(one["Value"]) for one in self.told.get("FinalMetricDataList", ())}

    @property
    def failure(self) -> BintallyError | None:
        """The error that a bad end is, in a line; None for a good end, and for one that was asked for."""
        if not self.over or self.well or self.status == "Stopped":
            return None
        words = " ".join(self.reason.split()) or "the service gives no reason"
        known = failure_reason(self.reason)
        if known is not None:
            return type(known)(f"{self.kind.name} {self.name} ended as {self.status}: {known}")
        return JobFailedError(f"{self.kind.name} {self.name} ended as {self.status}: {words}")


def read_state(service: Service, kind: Kind, name: str) -> State | None:
    """How a job or an endpoint stands; None when there is none of that name.

    Raises:
        CloudError: and its kinds: the service refuses to say.
    """
    told = service.find(f"Describe{kind.member}", **{f"{kind.member}Name": name})
    return None if told is None else state_of(kind, told)


def state_of(kind: Kind, told: Mapping[str, Any]) -> State:
    """The state in the service's description of a job or an endpoint."""
    created = told.get("CreationTime")
    status = str(told[f"{kind.member}Status"])
    if kind is TRAINING:
        steps = _transitions(told.get("SecondaryStatusTransitions", ()), created)
    else:
        steps = (_step(kind, status, told, created),)
    return State(
        kind=kind,
        name=str(told[f"{kind.member}Name"]),
        status=status,
        steps=steps,
        created=created,
        reason=str(told.get("FailureReason", "")),
        told=told,
    )


def _transitions(told: Any, created: datetime | None) -> tuple[Step, ...]:
    return tuple(
        Step(
            status=str(one["Status"]),
            seconds=_between(created, one.get("StartTime")),
            message=str(one.get("StatusMessage") or ""),
        )
        for one in told
    )


def _step(kind: Kind, status: str, told: Mapping[str, Any], created: datetime | None) -> Step:
    """The one step that a description without a history allows: the present one."""
    message = ""
    if kind is TUNING:
        message = counters(told)
    began = {TUNING: "HyperParameterTuningEndTime", BATCH: "TransformEndTime", ENDPOINT: "LastModifiedTime"}[kind]
    return Step(status=status, seconds=_between(created, told.get(began)), message=message)


def counters(told: Mapping[str, Any]) -> str:
    """How many trainings of a tuning are where, and the best of them so far."""
    numbers = told.get("TrainingJobStatusCounters", {})
    words = {
        "running": numbers.get("InProgress", 0),
        "completed": numbers.get("Completed", 0),
        "stopped": numbers.get("Stopped", 0),
        "failed": numbers.get("NonRetryableError", 0) + numbers.get("RetryableError", 0),
    }
    said = ", ".join(f"{number} {word}" for word, number in words.items() if number) or "none started yet"
    best = told.get("BestTrainingJob", {})
    metric = best.get("FinalHyperParameterTuningJobObjectiveMetric")
    if metric:
        said += f"; best {metric['MetricName']} {metric['Value']:.4g} ({best.get('TrainingJobName', '')})"
    return said


def _between(start: datetime | None, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0


def find_state(service: Service, name: str, kinds: tuple[Kind, ...] = KINDS) -> State:
    """The job or endpoint of that name, whatever its kind.

    Raises:
        CloudError: there is none, or the service refuses to say.
    """
    for kind in kinds:
        found = read_state(service, kind, name)
        if found is not None:
            return found
    words = ", ".join(f"no {kind.name}" for kind in kinds)
    raise CloudError(
        f"{words} is called {name!r} in {service.region}: `bintally cloud status` lists what bintally made there"
    )


def stop(service: Service, state: State) -> bool:
    """Asks the service to end a job; what it has done so far is kept. Returns whether there was anything to end.

    Raises:
        CloudError: and its kinds: it refuses.
    """
    if state.over or state.status == "Stopping" or not state.kind.stop:
        return False
    service.call(state.kind.stop, **{f"{state.kind.member}Name": state.name})
    return True
