"""Following a job: what happens to it, told as it happens, until it is over."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from bintally.cloud.jobs import ENDPOINT, Kind, State, Step, read_state
from bintally.cloud.logs import Tail
from bintally.cloud.options import CloudSettings
from bintally.cloud.service import Notice, Service
from bintally.errors import BintallyError, CloudError, CloudLimitError


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time, as following needs it; tests bring their own."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def follow(
    service: Service,
    kind: Kind,
    name: str,
    settings: CloudSettings,
    notice: Notice,
    *,
    logs: Notice | None = None,
    clock: Clock | None = None,
) -> State:
    """Tells each change of a job's state until it is over, and gives the last state.

    An outage of the network, and a service that asks to slow down, are waited out, for `settings.patience_s`; the job
    itself goes on wherever it is, and an error that ends the following says so.

    Args:
        service: where it runs.
        kind: of the job.
        name: of the job.
        settings: how often to look.
        notice: gets a line a change, with the time since the job was made.
        logs: gets the job's own lines, when given.
        clock: the time.

    Raises:
        CloudError: there is no such job, or the service refuses to say how it stands.
    """
    clock = clock or Clock()
    teller = _Teller(notice, clock)
    tail = Tail(service, kind, name) if logs else None
    lost_since: float | None = None
    while True:
        try:
            state = read_state(service, kind, name)
            if tail and logs:
                tail.show(logs)
        except BintallyError as error:
            if not isinstance(error, CloudError):
                raise
            lost_since = clock.now() if lost_since is None else lost_since
            if not _passes(service, error) or clock.now() - lost_since >= settings.patience_s:
                end = f"stop {name}" if kind.stop else f"destroy {name}"
                raise type(error)(
                    f"{error}; the {kind.name} {name} goes on by itself: bintally cloud status {name} --follow; "
                    f"end it: bintally cloud {end}"
                ) from error
            notice(f"{error}; trying again")
            clock.sleep(settings.poll_s)
            continue
        if lost_since is not None:
            notice("the service answers again")
            lost_since = None
        if state is None:
            gone = "was removed while it was followed" if teller.heard else "is not there"
            raise CloudError(f"{kind.name} {name} {gone}: `bintally cloud status` lists what is")
        teller.tell(state)
        if state.over:
            if tail and logs:
                tail.show(logs)  # what it wrote between the last look and its end
            return state
        clock.sleep(settings.poll_s)


def _passes(service: Service, error: CloudError) -> bool:
    """Whether the same question may be answered later: there was no answer, or it was "not so fast"."""
    return isinstance(error, CloudLimitError) or not service.reachable(error)


class _Teller:
    """Says what has not been said yet."""

    def __init__(self, notice: Notice, clock: Clock) -> None:
        self.heard = False
        self._notice = notice
        self._clock = clock
        self._said: list[tuple[str, str]] = []

    def tell(self, state: State) -> None:
        """Tells the steps that are new."""
        self.heard = True
        if state.steps and state.kind.member == "TrainingJob":
            for step in state.steps[len(self._said) :]:
                self._say(step)
            # The last one may have got another message meanwhile.
            last = state.steps[-1]
            if self._said[-1] != (last.status, last.message) and last.message:
                self._say(last, replace=True)
            return
        for step in state.steps or (Step(status=state.status, seconds=0.0),):
            if not self._said or self._said[-1] != (step.status, step.message):
                self._say(self._timed(step, state))

    def _timed(self, step: Step, state: State) -> Step:
        """A step that the service gives no time for happened now; an endpoint in service, when it became so."""
        if state.created is None or (state.over and step.seconds and state.kind is not ENDPOINT):
            return step
        seconds = max(0.0, self._clock.now() - state.created.timestamp())
        return Step(status=step.status, seconds=seconds, message=step.message)

    def _say(self, step: Step, *, replace: bool = False) -> None:
        said = (step.status, step.message)
        if replace:
            self._said[-1] = said
        else:
            self._said.append(said)
        self._notice(step_line(step))


def step_line(step: Step) -> str:
    """A step as a line: "    1:05  Downloading: Downloading input data"."""
    return f"{elapsed(step.seconds):>8}  {step.status}{f': {step.message}' if step.message else ''}"


def elapsed(seconds: float) -> str:
    """A time as people read it: "1:05", "2:03:07"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
