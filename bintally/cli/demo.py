"""The verbs of `demo`."""

import typer

commands = typer.Typer()
