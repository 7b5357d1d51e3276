"""Asking the verbs of `bintally cloud`, as a person or a script does."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from bintally.cli.app import app
from tests.model_folder import make_model

DATA = "s3://bintally/bins"


def call(*words: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["cloud", *map(str, words)], catch_exceptions=False, input=answer)


def told(*words: object) -> Any:
    return json.loads(call(*words, "--json").stdout)


def train(project: str, *words: object, **hyperparameters: object) -> Any:
    raw = [word for key, value in hyperparameters.items() for word in ("--hyperparameter", f"{key}={value}")]
    return told("train", DATA, "--project", project, *raw, *words)


def started(project: str, **hyperparameters: object) -> str:
    return str(train(project, "--no-wait", **hyperparameters)["name"])


def model_folder(tmp_path: Path) -> Path:
    if not (tmp_path / "model").exists():
        make_model(tmp_path / "model")
    return tmp_path / "model"
