"""What docs/serving.md says: its commands parse, its settings and their defaults are such, its figures are told."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bintally.cli.app import app
from bintally.counts import CountDistribution, Unreadable
from bintally.learn.export import ExportSettings
from bintally.serve.client import PredictSettings
from bintally.serve.crew import Counted
from bintally.serve.engine import EngineSettings
from bintally.serve.metrics import Metrics
from bintally.serve.openapi import describe
from bintally.serve.options import ServeSettings

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")
TABLES = {
    "serve": ServeSettings(),
    "engine": EngineSettings(),
    "export": ExportSettings(),
    "predict": PredictSettings(),
}
COMMANDS = re.findall(r"^bintally .*$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_such_as_the_program_takes(line: str) -> None:
    _, verb, *rest = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    command.make_context(verb, rest)


def value_of(name: str) -> Any:
    table, *keys = name.split(".")
    value: Any = TABLES[table]
    for key in keys:
        value = getattr(value, key)
    return value


def test_every_setting_that_is_named_is_one() -> None:
    named = re.findall(r"`((?:serve|engine|export|predict)\.[a-z0-9_.]+)`", PAGE)
    assert len(set(named)) > 15
    for name in named:
        value_of(name)


def test_the_limits_are_the_defaults() -> None:
    rows = re.findall(r"^\| `((?:serve|engine)\.[a-z_]+)` \| ([\d.]+) ", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} >= {"serve.queue", "serve.max_body_mb", "serve.time_limit_s"}
    assert [name for name, told in rows if float(told) != value_of(name)] == []
    limits = ExportSettings()
    assert (limits.float32.difference, limits.num_check, limits.num_quantise) == (1e-4, 500, 300)
    assert (limits.bfloat16.changed, limits.bfloat16.loss) == (0.03, 0.01)
    assert (limits.int8.changed, limits.int8.loss) == (0.10, 0.03)
    assert (PredictSettings().attempts, PredictSettings().longest_wait_s) == (6, 10.0)


def test_every_path_is_named() -> None:
    told = set(re.findall(r"`(?:GET |POST )?(/[a-z0-9./-]*)`", PAGE))
    assert told >= {*describe(ServeSettings())["paths"], "/", "/docs", "/openapi.json"}


def test_the_metrics_are_those_that_are_told() -> None:
    gauges = dict.fromkeys(("queue", "queue_limit", "workers"), ("", 0.0))
    metrics = Metrics(lambda: gauges)
    metrics.request("/ping", 200, 0.1)
    metrics.reload("done")
    times: dict[str, Any] = {"model_id": "m", "queue_ms": 1.0, "decode_ms": 1.0, "infer_ms": 1.0}
    metrics.photo(Counted(answer=CountDistribution(probabilities=(0.5, 0.5)), **times))
    metrics.photo(Counted(answer=Unreadable(reason="none"), **times))
    made = set(re.findall(r"^# TYPE (bintally_\w+) (?!gauge\n.*_created)", metrics.text().decode(), re.MULTILINE))
    made = {name for name in made if not name.endswith("_created")}
    assert set(re.findall(r"`(bintally_[a-z_]+)", PAGE)) == made
