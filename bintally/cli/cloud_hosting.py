"""The verbs that count: `cloud deploy`, `cloud predict` and `cloud batch`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bintally.cli import cloud_wiring as wiring
from bintally.cli import console
from bintally.errors import BintallyError, UsageError

commands = typer.Typer()

Model = Annotated[
    str,
    typer.Argument(help="A training or tuning job, s3://…/model.tar.gz, or a model folder.", show_default=False),
]
Image = Annotated[str | None, typer.Option(help="Container image.")]


@commands.command()
def deploy(
    model: Model,
    name: Annotated[
        str | None, typer.Option(help="Name of the endpoint. One that is there is changed, without a pause.")
    ] = None,
    serverless: Annotated[
        bool, typer.Option("--serverless", help="Without machines: costs while it counts.")
    ] = False,
    memory: Annotated[int | None, typer.Option(help="Of a serverless endpoint, in MB (3072).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Photos that it counts at once (5).")] = None,
    instance: Annotated[str | None, typer.Option(help="Machine.")] = None,
    instances: Annotated[int | None, typer.Option(help="How many.")] = None,
    autoscale: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="Let the number of machines follow the photos.")
    ] = None,
    image: Image = None,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Leave an endpoint that fails for somebody to look at.")
    ] = False,
    no_wait: wiring.NoWait = False,
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
    assignments: wiring.Assignments = None,
) -> None:
    """Put a model behind an endpoint: model, configuration and endpoint, followed until it is in service.

    When a step is refused or the endpoint fails, what was made is removed again. The endpoint costs by the hour until
    `bintally cloud destroy`.

    Example: bintally cloud deploy bintally-seed-1122-101500-3fa --name counter --autoscale 1:3
    """
    from bintally.cloud.cost import endpoint_cost, read_prices
    from bintally.cloud.jobs import ENDPOINT
    from bintally.cloud.naming import make_name
    from bintally.cloud.requests import HostingWish, hosting_requests, scaling_requests
    from bintally.cloud.sagemaker import as_update, complete, existing_endpoint, start
    from bintally.cloud.sagemaker import deploy as make_endpoint

    scale = _scale(autoscale)
    if scale and no_wait:
        raise UsageError("--autoscale needs the endpoint to be in service: leave --no-wait out")
    given, _ = wiring.assigned(assignments)
    flags: dict[str, Any] = {"serverless_memory_mb": memory, "serverless_concurrency": concurrency}
    flags |= {"serve_instance": instance}
    flags |= {"serve_instances": instances, "image_serve": image, "cost_limit": cost_limit}
    wired = wiring.wire(config, given, region=region, project=project, bucket=bucket, role=role, **flags)
    settings = wired.settings
    made = make_name("endpoint", settings.project, "endpoint")
    uri, folder = wiring.model_place(wired, model, made, dry_run=dry_run)
    # A changed endpoint keeps its name; its new model and configuration have names of their own.
    wish = HostingWish(
        endpoint=name or made, model=made, config=made, model_uri=uri, serverless=serverless, scale=scale
    )
    before = None if dry_run or not name else existing_endpoint(wired.service, name, settings)
    making, scaling = hosting_requests(wish, settings), scaling_requests(wish, settings)
    making = complete(making if before is None else as_update(making), wired.extra)
    scaling = complete(scaling, wired.extra)
    reckoning = endpoint_cost(settings, read_prices(prices), serverless=serverless, most=scale[1] if scale else None)
    if dry_run:
        wiring.show_requests([*making, *scaling], wired, reckoning, [])
        return
    wiring.agree(wired, reckoning, yes=yes)
    wiring.send_model(wired, folder, uri)
    try:
        state = make_endpoint(
            wired.service,
            making,
            wish,
            settings,
            console.note,
            before=before,
            wait=not no_wait,
            keep_failed=keep_failed,
        )
    except KeyboardInterrupt:
        raise wiring.left_alone(wired, ENDPOINT, wish.endpoint) from None
    try:
        start(wired.service, scaling)
    except BintallyError as error:
        raise type(error)(
            f"{error}; the endpoint {wish.endpoint} is in service with {settings.serve_instances} machine(s), and does "
            f"not scale: {wired.hint(f'destroy {wish.endpoint}')} removes it"
        ) from error
    if as_json:
        console.out_json({**wiring.state_json(state), "model": uri, "address": f"sagemaker://{wish.endpoint}"})
        return
    console.out(f"endpoint {wish.endpoint}: {state.status}")
    console.note(f"count: {wired.hint(f'predict {wish.endpoint} photo.jpg')}")
    console.note(f"end:   {wired.hint(f'destroy {wish.endpoint} {made}')}")


def _scale(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    low, _, high = text.partition(":")
    if not (low.isdigit() and high.isdigit()):
        raise UsageError(f"--autoscale {text}: give the fewest and the most machines, as in 1:4")
    return int(low), int(high)


@commands.command()
def predict(
    endpoint: Annotated[str, typer.Argument(help="Name of the endpoint.", show_default=False)],
    photos: Annotated[list[Path], typer.Argument(help="Photos to count.", show_default=False)],
    show: Annotated[
        Path | None, typer.Option(help="Write every photo into this folder with its count drawn on it.")
    ] = None,
    region: wiring.Region = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set predict.attempts=3.")
    ] = None,
) -> None:
    """Count photos by an endpoint. The same as `bintally predict sagemaker://ENDPOINT`.

    Example: bintally cloud predict counter bin.jpg --show answers
    """
    from bintally.cli.serve import predict_photos

    address = endpoint if endpoint.startswith("sagemaker://") else f"sagemaker://{endpoint}"
    predict_photos(address, photos, show=show, region=region or "", as_json=as_json, assignments=assignments)


@commands.command()
def batch(
    model: Model,
    photos: Annotated[
        str, typer.Argument(help="s3://bucket/prefix with photos and nothing else.", show_default=False)
    ],
    to: Annotated[
        str | None, typer.Option(help="s3://bucket/prefix for the answers, <photo>.out. Default: in the bucket.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job.")] = None,
    instance: Annotated[str | None, typer.Option(help="Machine.")] = None,
    instances: Annotated[int | None, typer.Option(help="How many.")] = None,
    image: Image = None,
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
    assignments: wiring.Assignments = None,
) -> None:
    """Count every photo below a prefix by a batch transform job: an answer object for each.

    The model that it needs is made first, and removed when the job is over.

    Example: bintally cloud batch bintally-seed-1122-101500-3fa s3://my-bucket/bins/test
    """
    from bintally.cloud.artifacts import count_objects
    from bintally.cloud.cost import batch_cost, read_prices
    from bintally.cloud.jobs import BATCH
    from bintally.cloud.naming import make_name
    from bintally.cloud.requests import batch_request, model_request
    from bintally.cloud.sagemaker import complete, making_batch, unmake_model

    given, _ = wiring.assigned(assignments)
    flags: dict[str, Any] = {"batch_instance": instance, "batch_instances": instances, "image_serve": image}
    flags |= {"cost_limit": cost_limit, "bucket": bucket, "role": role}
    wired = wiring.wire(config, given, region=region, project=project, **flags)
    job = name or make_name("batch", wired.settings.project, "batch")
    answers = to or wired.settings.uri("batches", job)
    uri, folder = wiring.model_place(wired, model, job, dry_run=dry_run)
    plan = complete(
        [
            ("CreateModel", model_request(job, uri, wired.settings)),
            ("CreateTransformJob", batch_request(job, job, photos, answers, wired.settings)),
        ],
        wired.extra,
    )
    num = None if dry_run else count_objects(wired.service, photos.rstrip("/") + "/")
    if num == 0:
        raise UsageError(f"{photos} holds nothing: there would be nothing to count")
    reckoning = batch_cost(wired.settings, read_prices(prices), num)
    if dry_run:
        wiring.show_requests(plan, wired, reckoning, [])
        return
    wiring.agree(wired, reckoning, yes=yes)
    wiring.send_model(wired, folder, uri)
    with wiring.making(wired, BATCH, job):
        making_batch(wired.service, plan, wired.settings, console.note)
    if no_wait:
        wiring.started(wired, BATCH, job)
        console.note(f"its model {job} stays behind, at no cost: {wired.hint(f'destroy {job}')}")
        wiring.tell_started(BATCH, job, as_json=as_json)
        return
    state = wiring.follow_job(wired, BATCH, job, logs=logs, stop_on_interrupt=stop_on_interrupt, as_json=as_json)
    unmake_model(wired.service, job, wired.settings, console.note)
    num_answers = count_objects(wired.service, answers.rstrip("/") + "/")
    if as_json:
        console.out_json({**wiring.state_json(state), "photos": num, "answers": num_answers, "to": answers})
    else:
        console.out(f"batch {job}: {state.status}; {num_answers:,} answers for {num:,} photos in {answers}")
    if state.failure:
        raise type(state.failure)(f"{state.failure}; {num_answers:,} answers are in {answers}")
