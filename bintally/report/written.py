"""Figures that a verb wrote into a folder, read back for pages and tables."""

import json
from pathlib import Path
from typing import Any

from bintally.errors import RunError


def read_written(path: Path, verb: str) -> dict[str, Any]:
    """The contents of a JSON file of format 1.

    Args:
        path: the file.
        verb: who writes it, such as "evaluate": named in what goes wrong.

    Raises:
        RunError: there is none, or it is damaged, or of another format.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"there is no {path}: run `bintally {verb}` first") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: run `bintally {verb}` again") from error
    if not isinstance(found, dict) or found.get("format") != 1:
        raise RunError(f"{path} was not written by this version: run `bintally {verb}` again")
    return found
