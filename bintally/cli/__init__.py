"""The verbs: parse, settings, one call, print. Nothing else in bintally prints."""

from bintally.cli.app import main

__all__ = ["main"]
