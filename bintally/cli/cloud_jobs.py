"""The verbs `cloud train` and `cloud tune`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import cloud_wiring as wiring
from bintally.cli import console
from bintally.errors import JobFailedError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from bintally.cloud.jobs import State
    from bintally.cloud.search import Varied

commands = typer.Typer()

Data = Annotated[
    str | None,
    typer.Argument(help="s3://bucket/prefix, as `bintally push` wrote it. Or give --channel.", show_default=False),
]
Recipe = Annotated[str, typer.Option(help="A recipe that comes with bintally, or a TOML file.")]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel", metavar="NAME=S3-URI", help="Class folders by part, as in train=s3://bucket/bins/train."
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(help="s3://… of a pretrained snapshot: a container may have no internet. Or tiny: from scratch."),
]
Raw = Annotated[
    list[str] | None,
    typer.Option("--hyperparameter", metavar="NAME=VALUE", help="A hyperparameter as it is, with no check."),
]
Image = Annotated[str | None, typer.Option(help="Container image.")]
Spot = Annotated[bool | None, typer.Option("--spot/--on-demand", help="Spare capacity: cheaper, interruptible.")]
Hours = Annotated[float | None, typer.Option(help="Time limit of a training (2).")]
Name = Annotated[str | None, typer.Option(help="Name of the job. Default: made from project, recipe and time.")]


@commands.command()
def train(
    data: Data = None,
    recipe: Recipe = "seed",
    channels: Channels = None,
    backbone: Backbone = None,
    watching: Annotated[bool, typer.Option("--watch", help="Hold debug rules against the training.")] = False,
    profiling: Annotated[bool, typer.Option("--profile", help="Measure where its time goes.")] = False,
    stop_on: Annotated[
        str | None, typer.Option(help="Debug rules that end the training, as in ExplodingTensor.")
    ] = None,
    raw: Raw = None,
    name: Name = None,
    instance: Annotated[str | None, typer.Option(help="Machine, as in ml.g4dn.xlarge.")] = None,
    instances: Annotated[int | None, typer.Option(help="How many; more than one train data-parallel.")] = None,
    spot: Spot = None,
    hours: Hours = None,
    image: Image = None,
    resume_from: Annotated[
        str | None, typer.Option(metavar="JOB", help="Go on from the checkpoints of a job that was stopped.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Bring the model and the reports into this folder at the end.")
    ] = None,
    no_wait: wiring.NoWait = False,
    logs: wiring.Logs = False,
    stop_on_interrupt: wiring.StopOnInterrupt = False,
    cost_limit: wiring.CostLimit = None,
    yes: wiring.Yes = False,
    dry_run: wiring.DryRun = False,
    config: wiring.Config = None,
    bucket: wiring.Bucket = None,
    role: wiring.Role = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    prices: wiring.PricesFile = None,
    as_json: wiring.AsJson = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A setting of the recipe or of the cloud: train.epochs=5, cloud.train_volume_gb=50."
        ),
    ] = None,
) -> None:
    """Train on a managed machine, or several: a training job, followed until it is over.

    Every epoch's figures are read off its log. Checkpoints go to the bucket, so that a spot interruption costs minutes
    and a stopped job can be gone on from. Ctrl-C stops following and leaves the job running.

    Example: bintally cloud train s3://my-bucket/bins --recipe seed --set train.epochs=5 --spot
    """
    if to is not None and no_wait:
        raise UsageError(
            "--to waits for the end of the job: leave --no-wait out, and fetch later by `cloud download`"
        )
    from bintally.cloud.artifacts import take_output
    from bintally.cloud.cost import read_prices, training_cost
    from bintally.cloud.jobs import TRAINING
    from bintally.cloud.naming import make_name
    from bintally.cloud.requests import TrainingWish, training_request
    from bintally.cloud.sagemaker import complete, start

    given, tables = wiring.assigned(assignments, only_cloud=False)
    flags = {"train_instance": instance, "train_instances": instances, "spot": spot, "train_hours": hours}
    flags |= {"image_train": image, "cost_limit": cost_limit, "bucket": bucket, "role": role}
    wired = wiring.wire(config, given, region=region, project=project, **flags)
    asked = _hyperparameters(recipe, tables, backbone, raw)
    asked |= {key: "true" for key, wanted in (("watch", watching), ("profile", profiling)) if wanted}
    asked |= {"stop_on": stop_on} if stop_on else {}
    wish = TrainingWish(
        channels=_channels(data, channels, backbone), hyperparameters=asked, checkpoints=resume_from or ""
    )
    job = name or make_name("training", wired.settings.project, Path(recipe).stem)
    plan = complete([("CreateTrainingJob", training_request(job, wish, wired.settings))], wired.extra)
    reckoning = training_cost(wired.settings, read_prices(prices))
    if dry_run:
        wiring.show_requests(plan, wired, reckoning, [])
        return
    wiring.agree(wired, reckoning, yes=yes)
    with wiring.making(wired, TRAINING, job):
        start(wired.service, plan)
    if no_wait:
        wiring.started(wired, TRAINING, job)
        wiring.tell_started(TRAINING, job, as_json=as_json)
        return
    state = wiring.follow_job(wired, TRAINING, job, logs=logs, stop_on_interrupt=stop_on_interrupt, as_json=as_json)
    brought = (
        [str(one) for one in take_output(wired.service, state, to, console.Bar())] if to and _left(state) else []
    )
    _show_training(wired, state, brought, as_json=as_json)
    if state.failure:
        raise state.failure
    if not state.well:
        ended = state.steps[-1].message if state.steps else ""
        raise JobFailedError(
            f"training {job} was stopped{f' ({ended})' if ended else ''}: go on from its checkpoints by the same command "
            f"with --resume-from {job}"
        )


@commands.command()
def tune(
    data: Data = None,
    recipe: Recipe = "seed",
    space: Annotated[
        str | None,
        typer.Option(help="What varies: a TOML file, or one that comes with bintally. Default: RECIPE.space.toml."),
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="Bayesian, Random, Hyperband or Grid.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Trainings in all (10); a grid has its own number.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Trainings at once (2).")] = None,
    objective: Annotated[str | None, typer.Option(help="The metric that decides (validation:nll).")] = None,
    channels: Channels = None,
    backbone: Backbone = None,
    raw: Raw = None,
    name: Name = None,
    instance: Annotated[str | None, typer.Option(help="Machine of each training.")] = None,
    spot: Spot = None,
    hours: Hours = None,
    image: Image = None,
    no_wait: wiring.NoWait = False,
    stop_on_interrupt: wiring.StopOnInterrupt = False,
    cost_limit: wiring.CostLimit = None,
    yes: wiring.Yes = False,
    dry_run: wiring.DryRun = False,
    config: wiring.Config = None,
    bucket: wiring.Bucket = None,
    role: wiring.Role = None,
    region: wiring.Region = None,
    project: wiring.Project = None,
    prices: wiring.PricesFile = None,
    as_json: wiring.AsJson = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the recipe or of the cloud: train.epochs=5, cloud.tune_seed=1."),
    ] = None,
) -> None:
    """Look for better settings with a managed tuning job: many training jobs, chosen by the service.

    The search space is the file that `bintally tune` takes. What the service has no words for is said before anything
    is made: it knows no steps, its grid takes lists alone, and it compares with no baseline and repeats no seed.

    Example: bintally cloud tune s3://my-bucket/bins --recipe seed --strategy Bayesian --jobs 20 --parallel 4
    """
    from bintally.cloud.cost import read_prices, tuning_cost
    from bintally.cloud.jobs import TUNING
    from bintally.cloud.naming import make_name
    from bintally.cloud.requests import TrainingWish, tuning_request
    from bintally.cloud.sagemaker import complete, start, trials_of
    from bintally.cloud.search import parameter_ranges

    given, tables = wiring.assigned(assignments, only_cloud=False)
    flags: dict[str, Any] = {"tune_strategy": strategy, "tune_jobs": jobs, "tune_parallel": parallel}
    flags |= {"tune_objective": objective, "train_instance": instance, "spot": spot, "train_hours": hours}
    flags |= {"image_train": image, "cost_limit": cost_limit, "bucket": bucket, "role": role}
    wired = wiring.wire(config, given, region=region, project=project, **flags)
    settings = wired.settings
    varied = _varied(space, recipe)
    # What is tuned for is told before a refit, which would cost as much again; who wants one refits the winner.
    tables.setdefault("train", {}).setdefault("refit", "false")
    ranges = parameter_ranges(varied, settings.tune_strategy)
    wish = TrainingWish(
        channels=_channels(data, channels, backbone),
        hyperparameters=_hyperparameters(recipe, tables, backbone, raw, leave_out={one.name for one in varied}),
    )
    job = name or make_name("tuning", settings.project)
    request = tuning_request(job, wish, ranges, settings)
    plan = complete([("CreateHyperParameterTuningJob", request)], wired.extra)
    num_jobs = ranges.size or settings.tune_jobs
    reckoning = tuning_cost(settings, read_prices(prices), num_jobs)
    if dry_run:
        wiring.show_requests(plan, wired, reckoning, list(ranges.notes))
        return
    for note in ranges.notes:
        console.note(note)
    wiring.agree(wired, reckoning, yes=yes)
    with wiring.making(wired, TUNING, job):
        start(wired.service, plan)
    if no_wait:
        wiring.started(wired, TUNING, job)
        wiring.tell_started(TUNING, job, as_json=as_json)
        return
    state = wiring.follow_job(wired, TUNING, job, stop_on_interrupt=stop_on_interrupt)
    wiring.show_tuning(wired, state, trials_of(wired.service, job), as_json=as_json)
    if state.failure:
        raise state.failure


def _channels(data: str | None, channels: list[str] | None, backbone: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in channels or []:
        name, equals, uri = word.partition("=")
        if not (equals and name and uri):
            raise UsageError(f"--channel {word!r}: write it as NAME=s3://bucket/prefix")
        found[name] = uri
    if data is not None:
        found = {"data": data} | found
    if not found:
        raise UsageError("name the data: s3://bucket/prefix of `bintally push`, or --channel train=s3://… and others")
    if backbone is not None and backbone.startswith("s3://"):
        found["backbone"] = backbone
    return found


def _hyperparameters(
    recipe: str,
    tables: dict[str, dict[str, str]],
    backbone: str | None,
    raw: list[str] | None,
    *,
    leave_out: set[str] | None = None,
) -> dict[str, str]:
    """The recipe as the container reads it: a name that it knows, or what a file has otherwise; and what was set.

    A mistake costs a line here, and minutes of a machine there.
    """
    from importlib import resources

    from bintally.cloud.hyperparameters import parse_hyperparameters

    if backbone is not None and not backbone.startswith("s3://"):
        tables.setdefault("model", {})["backbone"] = backbone
    shipped = (resources.files("bintally") / "recipes" / f"{recipe}.toml").is_file()
    found = {"recipe": recipe} if shipped else _as_hyperparameters(recipe)
    for name in leave_out or ():
        found.pop(name, None)  # what the file has for it is where our own tuning starts; the service knows no start
    found |= {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}
    asked = parse_hyperparameters(found)
    _check_recipe(asked.recipe, asked.tables)
    for word in raw or []:
        name, equals, value = word.partition("=")
        if not (equals and name):
            raise UsageError(f"--hyperparameter {word!r}: write it as NAME=VALUE")
        found[name] = value
    return found


BASE = "seed"
"""The recipe that every container knows, to say others by what they have otherwise."""


def _as_hyperparameters(recipe: str) -> dict[str, str]:
    """A recipe file as what it has otherwise than `BASE`."""
    from bintally.cloud.search import as_text

    try:
        from bintally.learn.recipe import read_recipe
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
    wanted, base = read_recipe(recipe, environ={}).tables(), read_recipe(BASE, environ={}).tables()
    found = {"recipe": BASE}
    for section, table in wanted.items():
        for key, value in table.items():
            if value == base[section][key]:
                continue
            if value is None:
                raise UsageError(f"{recipe}: {section}.{key} has no value that a hyperparameter could say; set one")
            found[f"{section}.{key}"] = as_text(value)
    return found


def _check_recipe(recipe: str, tables: Mapping[str, Mapping[str, str]]) -> None:
    """Holds values against the recipe's limits. That needs torch; without it the job does so."""
    try:
        from bintally.learn.recipe import read_recipe
    except (ModuleNotFoundError, MissingExtraError):
        return
    known = {"model", "train", "augment", "pixels", "keep"}
    read_recipe(recipe, {table: keys for table, keys in tables.items() if table in known}, environ={})


def _varied(space: str | None, recipe: str) -> "list[Varied]":
    """The search space in plain values."""
    from bintally.cloud.search import Varied

    try:
        from bintally.cli.tune import find_space
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "optuna", "tune") from error
    try:
        found = find_space(space, recipe)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "optuna", "tune") from error
    return [
        Varied(
            name=one.name,
            choices=one.choices,
            low=one.low,
            high=one.high,
            log=one.log,
            stepped=one.step is not None and not (one.whole and one.step == 1),
            points=tuple(one.points()),
        )
        for one in found.dimensions
    ]


def _left(state: "State") -> bool:
    """Whether a training may have left something to bring here."""
    return state.well or state.status in {"Stopped", "Failed"}


def _show_training(wired: wiring.Wired, state: "State", brought: list[str], *, as_json: bool) -> None:
    if as_json:
        console.out_json({**wiring.state_json(state), "brought": brought})
        return
    from bintally.cloud.follow import elapsed

    billed = state.told.get("BillableTimeInSeconds")
    trained = state.told.get("TrainingTimeInSeconds")
    words = f"training {state.name}: {state.status}"
    if billed is not None:
        words += f"; {elapsed(billed)} are charged"
        if trained and billed < trained:
            words += f" of {elapsed(trained)} ({1 - billed / trained:.0%} saved)"
    console.out(words)
    shown = [[key, f"{value:.4g}"] for key, value in sorted(state.metrics.items())]
    if shown:
        console.out_table("", ["last figures in its log", ""], shown)
    for folder in brought:
        console.out(f"brought: {folder}")
    if state.model_uri and state.over and not state.failure:
        console.out(f"model: {state.model_uri}")
        console.note(f"next: {wired.hint(f'deploy {state.name}')}")
