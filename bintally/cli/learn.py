"""The verbs of `learn`."""

import typer

commands = typer.Typer()
