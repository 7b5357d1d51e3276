"""The verbs about what is there already: `cloud status`, `logs`, `download`, `stop`, `cost` and `destroy`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import cloud_wiring as wiring
from bintally.cli import console
from bintally.errors import FollowStoppedError, UsageError

if TYPE_CHECKING:
    from bintally.cloud.inventory import Thing

commands = typer.Typer()

Name = Annotated[str, typer.Argument(help="Of a job or an endpoint.", show_default=False)]
Days = Annotated[float, typer.Option(min=0, help="How far back jobs that are over are listed.")]


@commands.command()
def status(
    name: Annotated[str | None, typer.Argument(help="A job or an endpoint. Default: list all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow it until it is over.")] = False,
    logs: wiring.Logs = False,
    stop_on_interrupt: wiring.StopOnInterrupt = False,
    days: Days = 30,
    config: wiring.Config = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    as_json: wiring.AsJson = False,
    assignments: wiring.Assignments = None,
) -> None:
    """List what bintally has made, by its tag; or tell how one job or endpoint stands, and follow it.

    Example: bintally cloud status
    """
    wired = wiring.wire(config, wiring.assigned(assignments)[0], region=region, project=project)
    if name is None:
        if follow or logs:
            raise UsageError("name the job to follow: bintally cloud status NAME --follow")
        _list(wired, days, as_json=as_json)
        return
    from bintally.cloud.follow import step_line
    from bintally.cloud.jobs import TUNING, find_state
    from bintally.cloud.sagemaker import trials_of

    state = find_state(wired.service, name)
    if follow or logs:
        state = wiring.follow_job(
            wired, state.kind, name, logs=logs, stop_on_interrupt=stop_on_interrupt, as_json=as_json
        )
    if state.kind is TUNING:
        wiring.show_tuning(wired, state, trials_of(wired.service, name), as_json=as_json)
    elif as_json:
        console.out_json(wiring.state_json(state))
    else:
        console.out(f"{state.kind.name} {name}: {state.status}{f' ({state.reason})' if state.reason else ''}")
        for step in () if follow or logs else state.steps:
            console.out(step_line(step))
        for metric, value in sorted(state.metrics.items()):
            console.out(f"{metric:>24} {value:.4g}")
        if state.model_uri:
            console.out(f"model: {state.model_uri}")
    if (follow or logs) and state.failure:
        raise state.failure


def _list(wired: wiring.Wired, days: float, *, as_json: bool) -> None:
    from bintally.cloud.inventory import list_things

    things = list_things(wired.service, wired.settings, days=days, progress=console.Bar())
    if as_json:
        console.out_json([{**thing.row(), "runs": thing.runs} for thing in things])
        return
    if not things:
        console.out(f"nothing in {wired.settings.region} bears the tag bintally:project = {wired.settings.project}")
        return
    _table(things, f"made by bintally, project {wired.settings.project}, in {wired.settings.region}")
    running = [thing for thing in things if thing.runs]
    console.out(f"{len(running)} of {len(things)} run or serve, and cost by the hour: {wired.hint('cost --running')}")


def _table(things: "list[Thing]", title: str) -> None:
    rows = []
    for thing in things:
        made = thing.created.astimezone().strftime("%Y-%m-%d %H:%M") if thing.created else ""
        rows.append([thing.name, thing.sort.name, thing.status or "–", made])
    console.out_table(title, ["name", "what", "state", "made"], rows)


@commands.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    config: wiring.Config = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    assignments: wiring.Assignments = None,
) -> None:
    """Print the lines that a job or an endpoint has written; with --follow, as they come.

    Ctrl-C stops following, not the job.

    Example: bintally cloud logs bintally-seed-1122-101500-3fa --follow
    """
    import time

    from bintally.cloud.jobs import find_state, read_state
    from bintally.cloud.logs import Tail

    wired = wiring.wire(config, wiring.assigned(assignments)[0], region=region, project=project)
    state = find_state(wired.service, name)
    tail = Tail(wired.service, state.kind, name)
    try:
        num = tail.show(console.out)
        # An endpoint in service has come to a good end as a job has, and goes on writing.
        while follow and (not state.over or state.status == "InService"):
            time.sleep(wired.settings.poll_s)
            state = read_state(wired.service, state.kind, name) or state
            num += tail.show(console.out)
    except KeyboardInterrupt:
        again = wired.hint(f"logs {name} --follow")
        raise FollowStoppedError(
            f"stopped reading; the {state.kind.name} {name} is left as it is. Again: {again}"
        ) from None
    if not num:
        console.note(f"{state.kind.name} {name} ({state.status}) has written nothing yet")
    if follow and state.failure:
        raise state.failure


@commands.command()
def download(
    name: Annotated[str, typer.Argument(help="A training job, or a tuning job for its best.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="Folder that gets model/ and output/.", show_default=False)],
    config: wiring.Config = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    as_json: wiring.AsJson = False,
    assignments: wiring.Assignments = None,
) -> None:
    """Bring what a training job wrote: its model, and its reports, curves and figures.

    Example: bintally cloud download bintally-seed-1122-101500-3fa --to runs/cloud
    """
    from bintally.cloud.artifacts import take_output
    from bintally.cloud.sagemaker import training_of

    wired = wiring.wire(config, wiring.assigned(assignments)[0], region=region, project=project)
    state = training_of(wired.service, name)
    if not state.over:
        raise UsageError(f"training {name} is {state.status}: follow it by {wired.hint(f'status {name} --follow')}")
    brought = [str(one) for one in take_output(wired.service, state, to, console.Bar())]
    if as_json:
        console.out_json({"name": state.name, "brought": brought})
        return
    for folder in brought:
        console.out(folder)


@commands.command()
def stop(
    name: Name,
    no_wait: wiring.NoWait = False,
    config: wiring.Config = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    as_json: wiring.AsJson = False,
    assignments: wiring.Assignments = None,
) -> None:
    """Stop a job; it has two minutes to write a checkpoint, and what it has written is kept.

    A training is gone on from by `bintally cloud train … --resume-from NAME`.

    Example: bintally cloud stop bintally-seed-1122-101500-3fa
    """
    from bintally.cloud.jobs import ENDPOINT, find_state
    from bintally.cloud.jobs import stop as stop_job

    wired = wiring.wire(config, wiring.assigned(assignments)[0], region=region, project=project)
    state = find_state(wired.service, name)
    if state.kind is ENDPOINT:
        raise UsageError(f"{name} is an endpoint, which serves until it is removed: {wired.hint(f'destroy {name}')}")
    if stop_job(wired.service, state):
        console.note(f"asked the service to stop {state.kind.name} {name}")
    if not state.over and not no_wait:
        state = wiring.follow_job(wired, state.kind, name)
    if as_json:
        console.out_json(wiring.state_json(state))
    else:
        console.out(f"{state.kind.name} {name}: {'Stopping' if not state.over else state.status}")


@commands.command()
def cost(
    photos: Annotated[int, typer.Option(min=1, help="To reckon a batch and a serverless endpoint with.")] = 10_000,
    running: Annotated[bool, typer.Option("--running", help="What runs now, by the hour, instead.")] = False,
    config: wiring.Config = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    prices: wiring.PricesFile = None,
    as_json: wiring.AsJson = False,
    assignments: wiring.Assignments = None,
) -> None:
    """Reckon what a training, a tuning, an endpoint and a batch would cost with the present settings.

    By a dated table of prices, which is to be checked; nothing is asked of the service, except with --running.

    Example: bintally cloud cost --set cloud.train_instance=ml.g4dn.xlarge --set cloud.train_hours=1
    """
    from bintally.cloud import cost as reckon

    given, _ = wiring.assigned(assignments)
    table = reckon.read_prices(prices)
    if running:
        wired = wiring.wire(config, given, region=region, project=project)
        _running_cost(wired, table, as_json=as_json)
        return
    settings = wiring.read_settings(config, given, region=region, project=project)
    found = {
        "training": reckon.training_cost(settings, table),
        "tuning": reckon.tuning_cost(settings, table, settings.tune_jobs),
        "endpoint": reckon.endpoint_cost(settings, table),
        "serverless endpoint": reckon.endpoint_cost(settings, table, serverless=True, photos=photos),
        "batch": reckon.batch_cost(settings, table, photos),
    }
    if as_json:
        console.out_json({key: one.as_json() for key, one in found.items()})
        return
    rows = [
        [line.what if place else name, "?" if line.usd is None else reckon.dollars(line.usd), one.span, line.how]
        for name, one in found.items()
        for place, line in enumerate(one.lines)
    ]
    title = f"by the prices of {table.table.date} in {table.table.region}: check them"
    console.out_table(title, ["what", "cost", "for", "reckoned as"], rows)
    for name, one in found.items():
        for note in one.notes:
            console.out(f"{name}: {note}")
    if settings.region and settings.region != table.table.region:
        console.out(f"{settings.region} has prices of its own: give them by --prices")


def _running_cost(wired: wiring.Wired, table: Any, *, as_json: bool) -> None:
    from bintally.cloud import cost as reckon
    from bintally.cloud.inventory import list_things, machines_of

    things = [one for one in list_things(wired.service, wired.settings, days=0, progress=console.Bar()) if one.runs]
    machines = [one for thing in things for one in machines_of(wired.service, thing)]
    found = reckon.running_cost(machines, table)
    if as_json:
        console.out_json({**found.as_json(), "charged": not wired.service.is_here})
        return
    if wired.service.is_here:
        console.note(f"the service is on this machine ({wired.service.address}): nothing is charged")
    rows = [[one.what, "?" if one.usd is None else reckon.dollars(one.usd), one.how] for one in found.lines]
    if rows:
        console.out_table("an hour of what runs", ["what", "cost", "reckoned as"], rows)
    console.out(found.words() if rows else "nothing runs")


@commands.command()
def destroy(
    names: Annotated[list[str] | None, typer.Argument(help="Only these. Default: all with the tag.")] = None,
    records: Annotated[
        bool, typer.Option("--records", help="The records of jobs that are over, too; they cost nothing.")
    ] = False,
    days: Days = 30,
    yes: wiring.Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List only.")] = False,
    config: wiring.Config = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    as_json: wiring.AsJson = False,
    assignments: wiring.Assignments = None,
) -> None:
    """Stop and remove what bintally has made with the service, and nothing else: what bears its tag is listed first.

    Jobs that run are stopped; endpoints, their configurations and models are removed, autoscaling with them. What jobs
    wrote into the bucket, and their logs, stay: they are named, with what they cost.

    Example: bintally cloud destroy --dry-run
    """
    from bintally.cloud.inventory import list_things
    from bintally.cloud.removal import choose, remove_all
    from bintally.errors import CloudError

    wired = wiring.wire(config, wiring.assigned(assignments)[0], region=region, project=project)
    found = list_things(wired.service, wired.settings, days=days, progress=console.Bar())
    chosen = choose(found, names or [], records=records)
    if dry_run or not chosen:
        if as_json:
            console.out_json({"would_remove": [one.row() for one in chosen]})
        elif chosen:
            _table(chosen, "would be removed")
        else:
            console.out(f"nothing to remove bears the tag bintally:project = {wired.settings.project}")
        return
    if not as_json:
        _table(chosen, "to be removed")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{len(chosen)} things would be removed: say --yes, or look first by --dry-run")
        if not typer.confirm(f"remove these {len(chosen)}?", err=True):
            raise UsageError("nothing was removed")
    removed = remove_all(wired.service, chosen, wired.settings, console.note)
    if as_json:
        left = [{**thing.row(), "why": why} for thing, why in removed.left]
        console.out_json({"removed": [one.row() for one in removed.done], "left": left})
    else:
        console.out(f"{len(removed.done)} of {len(chosen)} removed or stopped")
    _say_what_stays(wired)
    if removed.left:
        raise CloudError(f"still there: {', '.join(f'{one.sort.name} {one.name}' for one, _ in removed.left)}")


def _say_what_stays(wired: wiring.Wired) -> None:
    if wired.settings.bucket:
        console.note(f"the bucket keeps what jobs wrote: aws s3 rm --recursive {wired.settings.uri()}/")
    console.note("log groups /aws/sagemaker/… stay until their retention ends or somebody removes them")
