"""The verb `cloud local`: the managed service on this machine."""

import shlex
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from bintally.cli import console

commands = typer.Typer()

ENVIRONMENT_FILE = "environment"


@commands.command()
def local(
    to: Annotated[
        Path, typer.Option("--to", help="The service's folder: bucket, jobs, logs; it survives a restart.")
    ] = Path(".bintally-cloud"),
    port: Annotated[int | None, typer.Option(help="Port of the service. Default: 8771; 0 takes a free one.")] = None,
    s3_endpoint: Annotated[
        str | None,
        typer.Option(help="URL of an S3 server to use instead of one on this machine.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the environment as one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option("--config", help="A TOML file with a [local] table.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set local.parallel_jobs=1.")
    ] = None,
) -> None:
    """Be the managed service on this machine, with no account, until Ctrl-C.

    Speaks the protocols of SageMaker, its runtime, CloudWatch Logs, Application Auto Scaling and STS on a loopback
    port, and carries jobs and endpoints out as processes here. Prints the variables by which boto3, the `aws` program
    and the other `cloud` verbs find it; the file `environment` in its folder holds them too, for another shell:
    `source .bintally-cloud/environment`.

    Example: bintally cloud local
    """
    from bintally.cloud.local.options import LocalSettings
    from bintally.cloud.local.server import bind, server_of
    from bintally.cloud.local.service import Service
    from bintally.files import write_text
    from bintally.settings import check_tables, fill, parse_assignments, read_toml

    tables = read_toml(config) if config else {}
    given: dict[str, dict[str, Any]] = {**parse_assignments(assignments or [])}
    for source, found in ((str(config), tables), ("--set", given)):
        check_tables(found, {"local": LocalSettings}, source)
    named = {"port": port, "s3_endpoint": s3_endpoint}
    flags = {**given.get("local", {}), **{key: value for key, value in named.items() if value is not None}}
    settings = fill(LocalSettings, "local", file=tables, file_name=str(config), flags=flags)
    service = Service(to, settings)
    sock = bind(settings.port)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"

    def ready() -> None:
        environment = service.environment(url)
        lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        write_text(to / ENVIRONMENT_FILE, "\n".join(lines) + "\n")
        if as_json:
            console.out_json(environment, indent=None)
        else:
            console.out("\n".join(lines))
        console.note(f"the service is ready at {url}; in another shell: source {to / ENVIRONMENT_FILE}")

    try:
        service.start()
    except BaseException:
        service.stop()
        raise
    # uvicorn ends on the signal and then sends it again to whoever had it before: there is an orderly end to come.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server_of(service, ready).run(sockets=[sock])
    finally:
        console.note("ending what runs (trainings write a checkpoint first); Ctrl-C again ends it at once")
        service.stop()
