"""Taking down what bintally has made: jobs stopped, endpoints and what belongs to them removed, nothing else touched."""

from collections.abc import Sequence
from dataclasses import dataclass

from bintally.cloud.follow import Clock
from bintally.cloud.inventory import Thing
from bintally.cloud.jobs import ENDPOINT, KINDS, read_state, stop
from bintally.cloud.options import CloudSettings
from bintally.cloud.requests import scaled
from bintally.cloud.service import Notice, Service
from bintally.errors import BintallyError, CloudError

BUSY = {"Creating", "Updating", "SystemUpdating", "RollingBack"}
"""States in which the service does not let an endpoint be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What came of it.

    Attributes:
        done: what was removed or stopped.
        left: what was not, and why.
    """

    done: tuple[Thing, ...]
    left: tuple[tuple[Thing, str], ...]


def choose(things: Sequence[Thing], names: Sequence[str], *, records: bool = False) -> list[Thing]:
    """Those of the things that are to be taken down.

    Args:
        things: all that bear the tag.
        names: only these; all when empty.
        records: the records of jobs that are over, too, where the service has a way to remove them. They cost nothing
            and are the only history there is.

    Raises:
        CloudError: nothing of that name bears the tag.
    """
    unknown = [name for name in names if name not in {thing.name for thing in things}]
    if unknown:
        raise CloudError(
            f"nothing that bintally made is called {unknown[0]!r}: `bintally cloud status` lists what it made; what "
            "bears no tag of its own it does not touch"
        )
    wanted = [thing for thing in things if not names or thing.name in names]
    return [one for one in wanted if one.runs or not one.sort.is_job or (records and one.sort.can_go)]


def remove_all(
    service: Service,
    things: Sequence[Thing],
    settings: CloudSettings,
    notice: Notice,
    *,
    clock: Clock | None = None,
) -> Removed:
    """Takes things down, one after another; what fails is left and told, and stops nothing.

    Args:
        service: where they are.
        things: in the order of `inventory.SORTS`.
        settings: how patiently to wait for what is being made or stopped.
        notice: gets a line for each.
        clock: the time.
    """
    clock = clock or Clock()
    done: list[Thing] = []
    left: list[tuple[Thing, str]] = []
    for thing in things:
        try:
            notice(_remove(service, thing, settings, notice, clock))
            done.append(thing)
        except BintallyError as error:
            notice(f"{thing.sort.name} {thing.name} is still there: {error}")
            left.append((thing, str(error)))
    return Removed(done=tuple(done), left=tuple(left))


def _remove(service: Service, thing: Thing, settings: CloudSettings, notice: Notice, clock: Clock) -> str:
    sort = thing.sort
    if sort.is_job and thing.runs:
        kind = next(kind for kind in KINDS if kind.name == sort.name)
        state = read_state(service, kind, thing.name)
        if state is not None and stop(service, state):
            return f"{sort.name} {thing.name}: stopping"
        return f"{sort.name} {thing.name}: over already"
    if sort.name == "endpoint":
        _remove_endpoint(service, thing.name, settings, notice, clock)
    elif service.find(f"Delete{sort.member}", **{f"{sort.member}Name": thing.name}) is None:
        return f"{sort.name} {thing.name}: gone already"
    return f"{sort.name} {thing.name}: removed"


def _remove_endpoint(service: Service, name: str, settings: CloudSettings, notice: Notice, clock: Clock) -> None:
    state = read_state(service, ENDPOINT, name)
    if state is None:
        return
    if state.status in BUSY:
        notice(f"endpoint {name} is {state.status}, and can be removed only after that: waiting")
    while state is not None and state.status in BUSY:
        clock.sleep(settings.poll_s)
        state = read_state(service, ENDPOINT, name)
    if state is None:
        return
    for variant in state.told.get("ProductionVariants", ()):
        _stop_scaling(service, name, variant["VariantName"], notice)
    if state.status != "Deleting":
        service.find("DeleteEndpoint", EndpointName=name)
    began = clock.now()
    while read_state(service, ENDPOINT, name) is not None:
        if clock.now() - began > settings.patience_s:
            raise CloudError(f"it is still being removed after {settings.patience_s:.0f} s: look again in a while")
        clock.sleep(settings.poll_s)


def _stop_scaling(service: Service, endpoint: str, variant: str, notice: Notice) -> None:
    """Forgets the scaling of an endpoint that goes. Who may not do so can still remove the endpoint."""
    target = scaled(endpoint, variant)
    try:
        found = service.call(
            "DescribeScalableTargets", ServiceNamespace=target["ServiceNamespace"], ResourceIds=[target["ResourceId"]]
        )
        if found.get("ScalableTargets"):
            service.find("DeregisterScalableTarget", **target)
    except BintallyError as error:
        notice(f"the scaling of {endpoint} was not looked at: {error}")
