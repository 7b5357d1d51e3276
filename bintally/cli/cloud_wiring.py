"""What the verbs of `cloud` share: their settings, the question about the cost, and how a job is followed."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console
from bintally.errors import CloudError, FollowStoppedError, UsageError

if TYPE_CHECKING:
    from bintally.cloud.cost import Reckoning
    from bintally.cloud.jobs import Kind, State
    from bintally.cloud.options import CloudSettings
    from bintally.cloud.service import Service
    from bintally.cloud.shapes import Request

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="A TOML file with a [cloud] table, and a table for every request that is to have further fields, as in "
        "[CreateTrainingJob.VpcConfig].",
    ),
]
Region = Annotated[str | None, typer.Option(help="Region of the service.")]
Project = Annotated[str | None, typer.Option(help="Value of the tag bintally:project (bintally).")]
Bucket = Annotated[str | None, typer.Option(help="Bucket for what jobs write.")]
Role = Annotated[str | None, typer.Option(help="ARN of the role that the service takes on.")]
CostLimit = Annotated[float | None, typer.Option(help="US dollars past which to ask first (5).")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the requests as JSON and send none.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not follow it.")]
StopOnInterrupt = Annotated[bool, typer.Option("--stop-on-interrupt", help="Ctrl-C stops the job, too.")]
Logs = Annotated[bool, typer.Option("--logs", help="Show the job's own lines while following.")]
PricesFile = Annotated[
    Path | None,
    typer.Option("--prices", envvar="BINTALLY_PRICES", help="A table of prices like bintally/cloud/prices.toml."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="A setting, as in --set cloud.train_hours=4.")]

Extra = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """A verb's settings and its way to the service.

    Attributes:
        settings: [cloud], with what depends on where the service is.
        extra: operation → further fields of its request.
        service: where to send requests.
        where: the flags that a later command needs to find the same things, with a blank before.
    """

    settings: "CloudSettings"
    extra: Extra
    service: "Service"
    where: str = ""

    def hint(self, words: str) -> str:
        """A command to type later."""
        return f"bintally cloud {words}{self.where}"


def read_settings(config: Path | None, given: Mapping[str, Any], **flags: Any) -> "CloudSettings":
    """The settings alone. The arguments are those of `wire`."""
    return _read(config, given, flags)[0]


def _read(config: Path | None, given: Mapping[str, Any], flags: Mapping[str, Any]) -> "tuple[CloudSettings, Extra]":
    from bintally.cloud.options import CloudSettings
    from bintally.cloud.sagemaker import EXTRA
    from bintally.settings import check_tables, fill, read_toml

    tables = read_toml(config) if config else {}
    check_tables(tables, dict.fromkeys(("cloud", *EXTRA), CloudSettings), str(config))
    named = {key: value for key, value in flags.items() if value is not None}
    settings = fill(CloudSettings, "cloud", file=tables, file_name=str(config), flags={**given, **named})
    return settings, {key: value for key, value in tables.items() if key != "cloud"}


def wire(config: Path | None, given: Mapping[str, Any], **flags: Any) -> Wired:
    """Reads the settings and opens the way to the service; nothing is asked of it yet.

    Args:
        config: the settings file.
        given: what `--set cloud.…` said.
        flags: named flags; None is not given. They win.
    """
    from dataclasses import replace

    from bintally.cloud.service import Service

    settings, extra = _read(config, given, flags)
    service = Service(settings, console.note)
    where = "".join(f" --{key} {flags[key]}" for key in ("region", "project") if flags.get(key) is not None)
    where += f" --config {config}" if config else ""
    settled = replace(settings.settled(here=service.is_here), region=service.region)
    return Wired(settings=settled, extra=extra, service=service, where=where)


def assigned(
    assignments: list[str] | None, *, only_cloud: bool = True
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What `--set` says: of [cloud], and of everything else.

    Args:
        assignments: the words.
        only_cloud: refuse everything else.
    """
    from bintally.cloud.options import CloudSettings
    from bintally.settings import check_tables, parse_assignments

    tables = parse_assignments(assignments or [])
    if only_cloud:
        check_tables(tables, {"cloud": CloudSettings}, "--set")
    return tables.pop("cloud", {}), tables


def show_requests(plan: "list[tuple[str, Request]]", wired: Wired, reckoning: "Reckoning", notes: list[str]) -> None:
    """What `--dry-run` prints."""
    console.out_json(
        {
            "requests": [{"operation": operation, "request": request} for operation, request in plan],
            "region": wired.settings.region,
            "endpoint_url": wired.service.address,
            "cost": reckoning.as_json() if not wired.service.is_here else None,
            "notes": [*notes, *reckoning.notes],
        }
    )


def agree(wired: Wired, reckoning: "Reckoning", *, yes: bool) -> None:
    """Tells what it will cost, and asks when that is past the limit.

    Raises:
        UsageError: nobody is there to ask, or the answer is no.
    """
    from bintally.cloud.cost import dollars

    if wired.service.is_here:
        console.note(f"the service is on this machine ({wired.service.address}): nothing is charged")
        return
    console.note(f"cost: {reckoning.words()}")
    for note in reckoning.notes:
        console.note(f"      {note}")
    limit = wired.settings.cost_limit
    if yes or not reckoning.exceeds(limit):
        return
    past = (
        "the cost is not known to be within"
        if reckoning.usd is None
        else f"{reckoning.span} {dollars(reckoning.usd)} is past"
    )
    if not sys.stdin.isatty():
        raise UsageError(f"{past} the limit of {limit:g} USD: say --yes, or set another limit by --cost-limit")
    if not typer.confirm(f"{past} the limit of {limit:g} USD; go on?", err=True):
        raise UsageError("nothing was made")


def follow_job(
    wired: Wired,
    kind: "Kind",
    name: str,
    *,
    logs: bool = False,
    stop_on_interrupt: bool = False,
    as_json: bool = False,
) -> "State":
    """Follows a job until it is over; Ctrl-C stops following, and the job only when that was asked for.

    With `as_json` the job's own lines keep out of the way of the JSON, on standard error.

    Raises:
        FollowStoppedError: Ctrl-C.
        CloudError: and its kinds: the service does not say how the job stands.
    """
    from bintally.cloud.follow import follow
    from bintally.cloud.jobs import read_state, stop

    lines = (console.note if as_json else console.out) if logs else None
    try:
        return follow(wired.service, kind, name, wired.settings, console.note, logs=lines)
    except KeyboardInterrupt:
        if not (stop_on_interrupt and kind.stop):
            raise left_alone(wired, kind, name) from None
    state = read_state(wired.service, kind, name)
    if state is not None and stop(wired.service, state):
        console.note(f"asked the service to stop {kind.name} {name}; Ctrl-C once more does not wait for it")
    try:
        state = follow(wired.service, kind, name, wired.settings, console.note, logs=lines)
    except KeyboardInterrupt:
        raise FollowStoppedError(
            f"{kind.name} {name} was asked to stop; whether it has, says {wired.hint(f'status {name}')}"
        ) from None
    raise FollowStoppedError(f"{kind.name} {name} is {state.status}; what it had written is kept")


def left_alone(wired: Wired, kind: "Kind", name: str) -> FollowStoppedError:
    """What is said when Ctrl-C stops following: that it goes on, how to follow it again, how to end it."""
    end = wired.hint(f"stop {name}" if kind.stop else f"destroy {name}")
    again = wired.hint(f"status {name} --follow")
    return FollowStoppedError(
        f"stopped following; the {kind.name} {name} goes on. Follow it again: {again}; end it: {end}"
    )


def started(wired: Wired, kind: "Kind", name: str) -> None:
    """Says what runs now, and how to follow and end it."""
    console.note(f"{kind.name} {name} runs; follow it: {wired.hint(f'status {name} --follow')}")
    console.note(f"{' ' * len(kind.name)} {' ' * len(name)}       end it: {wired.hint(f'stop {name}')}")


@contextlib.contextmanager
def making(wired: Wired, kind: "Kind", name: str) -> Iterator[None]:
    """While a request is on its way: what Ctrl-C, or an answer that never came, leaves unknown is said."""
    try:
        yield
    except KeyboardInterrupt:
        raise FollowStoppedError(
            f"stopped while {kind.name} {name} was being made: whether it was, says {wired.hint(f'status {name}')}"
        ) from None
    except CloudError as error:
        if wired.service.reachable(error):
            raise
        raise type(error)(
            f"{error}; whether {kind.name} {name} was made all the same, says {wired.hint(f'status {name}')}"
        ) from error


def tell_started(kind: "Kind", name: str, *, as_json: bool) -> None:
    """The outcome of not waiting."""
    if as_json:
        console.out_json({"kind": kind.name, "name": name})
    else:
        console.out(name)


def state_json(state: "State") -> dict[str, Any]:
    """How a job stands, for scripts."""
    created = state.created
    told = state.told
    found: dict[str, Any] = {
        "kind": state.kind.name,
        "name": state.name,
        "status": state.status,
        "reason": state.reason,
        "created": created.isoformat() if created else None,
        "steps": [{"status": one.status, "seconds": one.seconds, "message": one.message} for one in state.steps],
    }
    if state.kind.name == "training":
        found |= {"model": state.model_uri, "metrics": state.metrics}
        machines = told.get("ResourceConfig", {})
        found |= {"billed_seconds": told.get("BillableTimeInSeconds"), "spot": told.get("EnableManagedSpotTraining")}
        found |= {"instance": machines.get("InstanceType"), "instances": machines.get("InstanceCount")}
    return found


def show_tuning(wired: Wired, state: "State", trials: list[dict[str, Any]], *, as_json: bool) -> None:
    """The trainings of a tuning, best first."""
    rows = []
    for one in trials:
        metric = one.get("FinalHyperParameterTuningJobObjectiveMetric", {})
        tuned = one.get("TunedHyperParameters", {})
        begun, ended = one.get("TrainingStartTime"), one.get("TrainingEndTime")
        rows.append(
            {
                "name": one["TrainingJobName"],
                "status": one["TrainingJobStatus"],
                "metric": metric.get("MetricName"),
                "value": metric.get("Value"),
                "seconds": (ended - begun).total_seconds() if begun and ended else None,
                "tuned": tuned,
            }
        )
    best = state.told.get("BestTrainingJob", {}).get("TrainingJobName")
    if as_json:
        console.out_json({**state_json(state), "best": best, "trainings": rows})
        return
    names = sorted({name for row in rows for name in row["tuned"]})
    lines = [
        [row["name"], row["status"], "–" if row["value"] is None else f"{row['value']:.4g}"]
        + [_short(row["tuned"].get(name, "–")) for name in names]
        for row in rows
    ]
    metric_name = next((row["metric"] for row in rows if row["metric"]), "figure")
    console.out_table(f"tuning {state.name}: {state.status}", ["training", "state", metric_name, *names], lines)
    if best:
        console.out(f"best: {best}")
        console.note(f"next: {wired.hint(f'deploy {state.name}')} (its best training)")


def _short(text: str) -> str:
    """A hyperparameter as a table has room for it."""
    try:
        return f"{float(text.strip(chr(34))):.4g}"
    except ValueError:
        return text.strip('"')


def model_place(wired: Wired, model: str, name: str, *, dry_run: bool = False) -> tuple[str, Path | None]:
    """Where a model is, or will be once it was sent: its address, and the folder here to send.

    Args:
        wired: settings and service.
        model: a job's name, `s3://…/model.tar.gz`, or a model folder.
        name: under which a folder is put into the bucket.
        dry_run: ask the service nothing.
    """
    from bintally.cloud.artifacts import MODEL_ARCHIVE, check_model
    from bintally.cloud.sagemaker import model_of

    if model.startswith("s3://"):
        return model, None
    folder = Path(model)
    if folder.is_dir():
        check_model(folder)
        return wired.settings.uri("models", name, MODEL_ARCHIVE), folder
    if "/" in model:
        raise UsageError(f"{model!r} is no folder here, no job's name and no s3://…/model.tar.gz")
    if dry_run:
        return wired.settings.uri("jobs", model, "output", MODEL_ARCHIVE), None
    return model_of(wired.service, model), None


def send_model(wired: Wired, folder: Path | None, uri: str) -> None:
    """Puts a model folder into the bucket, when there is one to put."""
    from bintally.cloud.artifacts import upload_model

    if folder is not None:
        upload_model(wired.service, folder, uri, console.Bar())
        console.note(f"model: {uri}")
