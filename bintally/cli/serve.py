"""The verbs of `serve`, and of what makes a model fit to be served."""

import typer

commands = typer.Typer()
