"""The verbs of `cloud`: jobs and endpoints of SageMaker, or of `bintally cloud local`, which speaks its protocol."""

import typer

from bintally.cli import cloud_hosting, cloud_jobs, cloud_local, cloud_things

commands = typer.Typer()

cloud = typer.Typer(
    name="cloud",
    help="Train, tune, host and count with SageMaker, or with the same service on this machine (`cloud local`).",
    no_args_is_help=True,
)
commands.add_typer(cloud)
# Verbs of other files: each has its own `commands`, joined here.
for part in (cloud_jobs, cloud_hosting, cloud_things, cloud_local):
    cloud.add_typer(part.commands)
