"""The verbs of `serve`, and of what makes a model fit to be served."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console
from bintally.cores import num_cores
from bintally.errors import BintallyError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from bintally.card import ModelCard

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
        engine["threads"] = max(1, num_cores() // settings.workers)
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
    predict_photos(endpoint, photos, token=token, show=show, as_json=as_json, assignments=assignments)


def predict_photos(
    endpoint: str,
    photos: list[Path],
    *,
    token: str = "",
    show: Path | None = None,
    region: str = "",
    as_json: bool = False,
    assignments: list[str] | None = None,
) -> None:
    """What `predict` and `cloud predict` do."""
    try:
        from bintally.serve import client
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a library", "serve") from error
    from bintally.files import write_bytes
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"predict": client.PredictSettings}, "--set")
    settings = fill(client.PredictSettings, "predict", flags={"region": region or None} | tables.get("predict", {}))
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


@commands.command("export")
def export_run(
    run: Annotated[Path, typer.Argument(help="A run of `bintally train`.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="The model folder to make.", show_default=False)],
    precision: Annotated[
        str | None, typer.Option(help="What the model computes in: float32 (the default), bfloat16 or int8.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write a model that differs too much, with a note of it on its card.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the model folder that is there.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="A TOML file with an [export] table.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set export.num_check=1000.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the model's card as JSON.")] = False,
) -> None:
    """Make a model folder of a run: ONNX, OpenVINO's format, and the card that it is checked against.

    The exported model is held against the trained one on validation photos (of a refit run: on calibration photos); where
    they differ more than the limits allow, nothing is written. model.onnx is float32 whatever the precision; OpenVINO's
    files are what bintally runs.
    int8 takes its ranges from training photos and its temperature from the calibration part.

    Example: bintally export runs/seed --to models/int8 --precision int8
    """
    try:
        from bintally.learn.export import ExportSettings, export
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a library", "export") from error
    from bintally.settings import check_tables, fill, parse_assignments, read_toml

    tables = read_toml(config) if config else {}
    given = parse_assignments(assignments or [])
    for source, found in ((str(config), tables), ("--set", given)):
        check_tables(found, {"export": ExportSettings}, source)
    flags = given.get("export", {}) | ({} if precision is None else {"precision": precision})
    settings = fill(ExportSettings, "export", file=tables, file_name=str(config), flags=flags)
    made = export(run, to, settings, console.Bar(), accept=accept, force=force)
    if as_json:
        console.out_json(_card_values(made))
        return
    _show_card(made)
    console.out(f"written to {to}")


@commands.command()
def card(
    folder: Annotated[Path, typer.Argument(help="A model folder, or a run.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Print a model's card, once every file was found to be what the card says.

    Example: bintally card models/int8
    """
    from bintally.card import read_card

    found = read_card(folder)
    if as_json:
        console.out_json(_card_values(found))
    else:
        _show_card(found)


def _card_values(found: "ModelCard") -> dict[str, Any]:
    from bintally.settings import as_dict

    return {"model_id": found.model_id, **as_dict(found)}


def _show_card(found: "ModelCard") -> None:
    fitted = found.calibration
    told = {
        "model": f"{found.model_id}, {found.kind}, {found.precision}",
        "architecture": found.architecture,
        "input": f"RGB {found.pixels.size} × {found.pixels.size}",
        "counts": str(found.counts),
        "mean of the open class": "" if found.open_mean is None else f"{found.open_mean:.2f}",
        "temperature": f"{fitted.temperature:.3f}, on {fitted.num_photos:,} photos" if fitted else "not fitted yet",
        "trained on": f"{found.manifest} (manifest {found.manifest_digest[:12]})" if found.manifest_digest else "",
        "written by": f"bintally {found.code_version}",
        "licence": found.licence,
    }
    for name, value in told.items():
        if value:
            console.out(f"{name + ':':<24}{value}")
    for part, figures in found.metrics.items():
        console.out(f"{part + ':':<24}{_figures(figures)}")
    for remark in found.notes:
        console.out(f"{'note:':<24}{remark}")


def _figures(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{key} ({_figures(one)})" if isinstance(one, dict) else f"{key} {_figures(one)}"
            for key, one in value.items()
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)
