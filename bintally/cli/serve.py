"""The verbs of `serve`, and of what makes a model fit to be served."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bintally.cli import console
from bintally.errors import BintallyError, MissingExtraError, UsageError

commands = typer.Typer()


@commands.command()
def serve(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A model folder of `bintally export`. Default: what a hosting container finds in /opt/ml/model "
            "(BINTALLY_OPT_ML names another root).",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: this machine alone.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8080.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: 1, which uses every core.")] = None,
    queue: Annotated[
        int | None, typer.Option(help="Photos that may wait or be counted; past it the answer is 503.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A TOML file with [serve] and [engine] tables.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set serve.max_body_mb=4.")
    ] = None,
) -> None:
    """Answer over HTTP with an exported model, until SIGTERM.

    `/` is a page to drop a photo on, `/docs` describes the rest. A bearer token is set by BINTALLY_SERVE_TOKEN.
    SIGHUP takes up the model that the folder (or the link) holds by then. Logs go to standard error, as JSON lines.

    Example: bintally serve models/int8 --port 8080
    """
    try:
        from bintally.serve import supervisor, worker
        from bintally.serve.engine import EngineSettings
        from bintally.serve.options import ServeSettings, hosting_flags, hosting_model
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a library", "serve") from error
    from bintally.settings import as_dict, check_tables, fill, parse_assignments, read_toml

    known = {"serve": ServeSettings, "engine": EngineSettings}
    tables = read_toml(config) if config else {}
    check_tables(tables, known, str(config))
    flags: dict[str, dict[str, Any]] = {**parse_assignments(assignments or [])}
    check_tables(flags, known, "--set")
    named = {"host": host, "port": port, "workers": workers, "queue": queue}
    surroundings = hosting_flags(os.environ) if model is None else {}
    wanted = {**flags.get("serve", {}), **{key: value for key, value in named.items() if value is not None}}
    settings = fill(
        ServeSettings,
        "serve",
        file={"serve": {**surroundings, **tables.get("serve", {})}},
        file_name=str(config or "the hosting container's surroundings"),
        flags=wanted,
    )
    engine = as_dict(
        fill(EngineSettings, "engine", file=tables, file_name=str(config), flags=flags.get("engine", {}))
    )
    if settings.workers > 1 and not engine["threads"]:
        engine["threads"] = max(1, len(os.sched_getaffinity(0)) // settings.workers)
    model = model or hosting_model(os.environ)
    if settings.workers == 1:
        worker.serve_one(settings, worker.engine_loader(model, engine))
    else:
        supervisor.supervise(settings, model, engine)


@commands.command()
def predict(
    endpoint: Annotated[str, typer.Argument(help="http://host:port, https://host, or sagemaker://endpoint-name.")],
    photos: Annotated[list[Path], typer.Argument(help="Photos to count.")],
    token: Annotated[str, typer.Option(help="Bearer token of the server.", envvar="BINTALLY_TOKEN")] = "",
    show: Annotated[
        Path | None, typer.Option(help="Write every photo into this folder with its count drawn on it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set predict.attempts=3.")
    ] = None,
) -> None:
    """Count photos by a server of `bintally serve`, here or hosted.

    Waits and tries again when the server is full. A photo that cannot be read is one line in the answer.

    Example: bintally predict http://127.0.0.1:8080 bin.jpg --show answers
    """
    try:
        from bintally.serve import client
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a library", "serve") from error
    from bintally.files import write_bytes
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"predict": client.PredictSettings}, "--set")
    settings = fill(client.PredictSettings, "predict", flags=tables.get("predict", {}))
    if show is not None and len({photo.stem for photo in photos}) < len(photos):
        raise UsageError("--show names its files after the photos, and two of these have the same name")
    try:
        target = client.endpoint_of(endpoint, token=token, settings=settings)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "httpx", "serve") from error
    rows: list[list[str]] = []
    num_unreadable = 0
    for photo in photos:
        try:
            data = photo.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {photo}: {error.strerror}") from error
        answer = client.predict(target, data, settings)
        if "error" in answer:
            num_unreadable += 1
            rows.append([str(photo), "-", "-", "-", answer["error"]])
        else:
            share = f"{100 * answer['probability']:.0f} %"
            rows.append([str(photo), answer["name"], answer["range"]["name"], share, ""])
            if show is not None:
                write_bytes(show / f"{photo.stem}.jpg", client.draw(data, answer))
        if as_json:
            console.out_json({"photo": str(photo), **answer}, indent=None)
    target.close()
    if not as_json:
        console.out_table("", ["photo", "count", "90 % range", "probability", "unreadable"], rows)
    if num_unreadable == len(photos):
        raise BintallyError(f"none of {num_unreadable} photos could be read" if num_unreadable > 1 else rows[0][-1])
