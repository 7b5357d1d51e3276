"""The verbs: parse, settings, one call, print. Nothing else in bintally prints."""

import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the program: see `bintally.cli.app.main`."""
    if sys.argv[1:2] == ["serve"]:
        # Before anything is imported that takes time: a server that is told to stop has nothing to finish yet, and
        # ends as a container should; what it would load again has not been loaded. `serve` itself does better later.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from bintally.cli.app import main as run

    run()
