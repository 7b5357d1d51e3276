"""The verbs of `data`."""

import typer

commands = typer.Typer()
