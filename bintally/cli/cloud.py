"""The verbs of `cloud`: jobs and endpoints of SageMaker, or of `bintally cloud local`, which speaks its protocol."""

import typer

commands = typer.Typer()

cloud = typer.Typer(
    name="cloud",
    help="Train, tune, host and count with SageMaker, or with the same service on this machine (`cloud local`).",
    no_args_is_help=True,
)
commands.add_typer(cloud)
# Verbs of other files: each has its own `commands`, joined here as in `for part in (cloud_local,): cloud.add_typer(part.commands)`.
