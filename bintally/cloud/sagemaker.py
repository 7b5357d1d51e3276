"""Jobs and endpoints made on SageMaker: requests completed, checked, sent in order, and undone when only half of them took.

What the requests are is in `requests`, what happens to a job afterwards in `follow`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bintally.cloud.follow import Clock, follow
from bintally.cloud.inventory import SORTS, Thing, is_ours
from bintally.cloud.jobs import ENDPOINT, TRAINING, TUNING, State, find_state, read_state
from bintally.cloud.options import CloudSettings
from bintally.cloud.removal import remove_all
from bintally.cloud.requests import HostingWish
from bintally.cloud.service import Notice, Service
from bintally.cloud.shapes import Request, check_operation, check_request, merge
from bintally.errors import BintallyError, CloudError, FollowStoppedError, JobFailedError, SettingsError

EXTRA = (
    *("CreateTrainingJob", "CreateHyperParameterTuningJob", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"),
    *("UpdateEndpoint", "CreateTransformJob", "RegisterScalableTarget", "PutScalingPolicy"),
)
"""The operations whose requests can have further fields, each in a table of its name."""

Plan = Sequence[tuple[str, Request]]
"""Operations with their requests, in the order in which they are sent."""


def complete(plan: Plan, extra: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Request]]:
    """The plan with the further fields of a settings file, held against the service's model.

    Args:
        plan: what is to be sent.
        extra: operation → fields, merged into its request.

    Raises:
        SettingsError: a request does not fit the model, or there is no such operation.
        UsageError: a field would take bintally's tag away.
    """
    for operation in extra:
        check_operation(operation)
        if operation not in EXTRA:
            raise SettingsError(f"[{operation}]: bintally sends no such request; it sends {', '.join(EXTRA)}")
    made = [(operation, merge(request, extra.get(operation, {}))) for operation, request in plan]
    for operation, request in made:
        check_request(operation, request)
    return made


def start(service: Service, plan: Plan) -> None:
    """Sends a plan of independent makings, such as one job.

    Raises:
        CloudError: and its kinds: the service refuses.
    """
    for operation, request in plan:
        service.create(operation, request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """An endpoint that is there already.

    Attributes:
        parts: its present configuration and models, as far as they bear the project's tag.
    """

    parts: tuple[Thing, ...]


def existing_endpoint(service: Service, name: str, settings: CloudSettings) -> Existing | None:
    """The endpoint that a deployment would change; None when it would make a new one.

    Raises:
        CloudError: it is not bintally's, or in no state to be changed.
    """
    state = read_state(service, ENDPOINT, name)
    if state is None:
        return None
    if not is_ours(service, str(state.told["EndpointArn"]), settings):
        raise CloudError(
            f"there is an endpoint {name} without the tag of the project {settings.project}: give another name"
        )
    if state.status != "InService":
        raise CloudError(
            f"endpoint {name} is {state.status}: wait until it is InService, or bintally cloud destroy {name}"
        )
    config = service.call("DescribeEndpointConfig", EndpointConfigName=state.told["EndpointConfigName"])
    models = [
        service.call("DescribeModel", ModelName=variant["ModelName"]) for variant in config["ProductionVariants"]
    ]
    arns = {config["EndpointConfigArn"]: ("configuration", config["EndpointConfigName"])}
    arns |= {model["ModelArn"]: ("model", model["ModelName"]) for model in models}
    ours = [pair for arn, pair in arns.items() if is_ours(service, arn, settings)]
    return Existing(parts=tuple(_things(*ours)))


def as_update(plan: Plan) -> list[tuple[str, Request]]:
    """The plan of a deployment whose endpoint is there already: its last step changes it instead."""
    kept = [(operation, request) for operation, request in plan if operation != "CreateEndpoint"]
    endpoint = dict(plan)["CreateEndpoint"]
    allowed = {"EndpointName", "EndpointConfigName", "DeploymentConfig"}
    return [*kept, ("UpdateEndpoint", {key: value for key, value in endpoint.items() if key in allowed})]


def deploy(
    service: Service,
    plan: Plan,
    wish: HostingWish,
    settings: CloudSettings,
    notice: Notice,
    *,
    before: Existing | None = None,
    wait: bool = True,
    keep_failed: bool = False,
    clock: Clock | None = None,
) -> State:
    """Makes an endpoint, or changes one, and waits until it is in service.

    When a step is refused, what the steps before it made is removed again; when the endpoint fails, so is all of it,
    unless `keep_failed`. Whatever could not be removed is named in the error.

    Args:
        service: where.
        plan: of `requests.hosting_requests`, completed; with `as_update` when there is an endpoint.
        wish: its names.
        settings: how patiently to wait.
        notice: gets a line a change.
        before: the endpoint that is changed.
        wait: until it is in service; else the state right after making it is the answer.
        keep_failed: leave a failed endpoint for somebody to look at.
        clock: the time.

    Raises:
        JobFailedError: the endpoint failed.
        FollowStoppedError: Ctrl-C, before the endpoint was made. Later it is a plain KeyboardInterrupt, and the endpoint
            is being made all the same.
        CloudError: and its kinds: a step was refused.
    """
    made: list[Thing] = []
    for operation, request in plan:
        try:
            service.create(operation, request)
        except (BintallyError, KeyboardInterrupt) as error:
            # The service may have taken the request before an interrupt, or before its answer was lost: what it would
            # have made is undone too.
            if isinstance(error, KeyboardInterrupt) or not service.reachable(error):
                made += _made(operation, request)
            left = undo(service, made, settings, notice, clock=clock)
            if isinstance(error, BintallyError):
                raise type(error)(f"{error}; {left}") from error
            raise FollowStoppedError(f"stopped before the endpoint was made; {left}") from None
        made += _made(operation, request)
    if not wait:
        try:
            state = read_state(service, ENDPOINT, wish.endpoint)
        except CloudError as error:
            raise type(error)(f"{error}; the endpoint {wish.endpoint} is being made all the same") from error
        if state is None:
            raise CloudError(
                f"endpoint {wish.endpoint} was made, and the service does not know it: look again in a while"
            )
        return state
    state = follow(service, ENDPOINT, wish.endpoint, settings, notice, clock=clock)
    if state.well and state.told.get("EndpointConfigName") == wish.config:
        if before is not None:
            # reversed again by `undo`: the configuration goes before its models
            undo(service, before.parts[::-1], settings, notice, clock=clock)
        return state
    failure = state.failure or JobFailedError(
        f"endpoint {wish.endpoint} went back to what it was before ({state.reason or 'the service gives no reason'})"
    )
    new = made if before is None else [thing for thing in made if thing.sort.name != "endpoint"]
    log = f"its log is in {ENDPOINT.log_group.format(name=wish.endpoint)}"
    if keep_failed:
        kept = ", ".join(f"{thing.sort.name} {thing.name}" for thing in new)
        raise type(failure)(f"{failure}; left as it is: {kept} (bintally cloud destroy removes them); {log}")
    raise type(failure)(f"{failure}; {undo(service, new, settings, notice, clock=clock)}; {log}")


def undo(
    service: Service, made: Sequence[Thing], settings: CloudSettings, notice: Notice, *, clock: Clock | None = None
) -> str:
    """Removes what was made, last first, and says in half a sentence what has become of it."""
    if not made:
        return "nothing was made"
    removed = remove_all(service, list(reversed(made)), settings, notice, clock=clock)
    words = []
    if removed.done:
        words.append("removed again: " + ", ".join(f"{thing.sort.name} {thing.name}" for thing in removed.done))
    if removed.left:
        words.append(
            "STILL THERE: "
            + ", ".join(f"{thing.sort.name} {thing.name} ({why})" for thing, why in removed.left)
            + "; remove it with `bintally cloud destroy`"
        )
    return "; ".join(words)


def making_batch(service: Service, plan: Plan, settings: CloudSettings, notice: Notice) -> None:
    """Makes the model of a batch, then the batch; without the batch the model is removed again.

    Raises:
        CloudError: and its kinds: a step was refused; the message says what has become of the model. It stays when
            there was no answer.
    """
    made: list[Thing] = []
    for operation, request in plan:
        try:
            service.create(operation, request)
        except (BintallyError, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) or not service.reachable(error):
                raise  # the batch may have begun, and needs its model
            raise type(error)(f"{error}; {undo(service, made, settings, notice)}") from error
        made += _made(operation, request)


def unmake_model(service: Service, name: str, settings: CloudSettings, notice: Notice) -> None:
    """Removes the model that was made for a batch."""
    undo(service, _things(("model", name)), settings, notice)


_MAKES = {
    "CreateModel": ("model", "ModelName"),
    "CreateEndpointConfig": ("configuration", "EndpointConfigName"),
    "CreateEndpoint": ("endpoint", "EndpointName"),
}


def _made(operation: str, request: Request) -> list[Thing]:
    if operation not in _MAKES:
        return []
    sort, field = _MAKES[operation]
    return _things((sort, request[field]))


def _things(*pairs: tuple[str, str]) -> list[Thing]:
    sorts = {sort.name: sort for sort in SORTS}
    return [Thing(sort=sorts[sort], name=name, arn="", created=datetime.now(UTC)) for sort, name in pairs]


def training_of(service: Service, name: str) -> State:
    """A training job, or the best training of a tuning job, by the job's name.

    Raises:
        CloudError: there is no such job, or the tuning has no best training.
    """
    state = find_state(service, name, (TRAINING, TUNING))
    if state.kind is TUNING:
        best = str(state.told.get("BestTrainingJob", {}).get("TrainingJobName", ""))
        if not best:
            raise CloudError(f"tuning {name} has no best training yet ({state.status})")
        state = find_state(service, best, (TRAINING,))
    return state


def model_of(service: Service, name: str) -> str:
    """The model archive of a training job, or of the best training of a tuning job, by the job's name.

    Raises:
        CloudError: there is no such job, or it has left no model.
    """
    state = training_of(service, name)
    if not state.model_uri or not state.over:
        raise CloudError(f"training {state.name} has left no model ({state.status})")
    return state.model_uri


def trials_of(service: Service, name: str) -> list[dict[str, Any]]:
    """The trainings of a tuning job, best first as far as they have a figure.

    Raises:
        CloudError: and its kinds: the service refuses to say.
    """
    order = "Descending" if _maximises(service, name) else "Ascending"
    return list(
        service.every(
            "ListTrainingJobsForHyperParameterTuningJob",
            "TrainingJobSummaries",
            HyperParameterTuningJobName=name,
            SortBy="FinalObjectiveMetricValue",
            SortOrder=order,
            MaxResults=100,
        )
    )


def _maximises(service: Service, name: str) -> bool:
    told = service.call("DescribeHyperParameterTuningJob", HyperParameterTuningJobName=name)
    objective = told["HyperParameterTuningJobConfig"].get("HyperParameterTuningJobObjective", {})
    return bool(objective.get("Type") == "Maximize")
