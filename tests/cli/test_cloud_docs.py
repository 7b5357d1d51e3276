"""What docs/aws-first-run.md gives to copy: it parses, fits the service's model, and covers what the verbs call."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import bintally
from bintally.cli.app import app
from bintally.cloud.options import CloudSettings
from bintally.cloud.requests import HostingWish, TrainingWish, hosting_requests, training_request
from bintally.cloud.sagemaker import EXTRA, complete
from bintally.cloud.shapes import service_model
from bintally.settings import fill

PAGE = (Path(__file__).parents[2] / "docs/aws-first-run.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    found: list[str] = []
    fence = None
    for line in PAGE.splitlines():
        if line.startswith("```"):
            fence = line[3:] if fence is None else None
            if fence == kind:
                found.append("")
        elif fence == kind:
            found[-1] += line + "\n"
    return found


def statements() -> Iterator[dict[str, Any]]:
    for text in blocks("json"):
        yield from json.loads(text)["Statement"]


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


def test_the_policies_name_actions_that_there_are() -> None:
    known = {f"sagemaker:{name}" for name in service_model("sagemaker")["operations"]}
    known |= {"sagemaker:InvokeEndpoint"}  # of the runtime
    known |= {f"application-autoscaling:{name}" for name in service_model("application-autoscaling")["operations"]}
    known |= {f"logs:{name}" for name in service_model("logs")["operations"]}
    known |= {f"ecr:{name}" for name in service_model("ecr")["operations"]}
    ours = ("sagemaker:", "application-autoscaling:", "logs:", "ecr:")
    asked = [one for statement in statements() for one in actions(statement) if one.startswith(ours)]
    assert len(asked) > 40
    assert [one for one in asked if one not in known] == []


def test_the_policies_allow_what_the_verbs_call() -> None:
    code = "".join(
        path.read_text(encoding="utf-8") for path in (Path(bintally.__file__).parent / "cloud").glob("*.py")
    )
    called = {name for name in service_model("sagemaker")["operations"] if f'"{name}"' in code}
    # Those that are put together from a kind's name.
    members = ("TrainingJob", "HyperParameterTuningJob", "TransformJob", "Endpoint", "EndpointConfig", "Model")
    called |= {f"Describe{member}" for member in members} | {f"List{member}s" for member in members}
    called |= {"DeleteEndpointConfig", "DeleteModel", "DeleteTrainingJob", "DeleteHyperParameterTuningJob"}
    allowed = {one.partition(":")[2] for statement in statements() for one in actions(statement)}
    assert called - allowed == set()
    assert {"DescribeLogStreams", "GetLogEvents", "RegisterScalableTarget", "PutScalingPolicy"} <= allowed


def test_nothing_is_allowed_everywhere_but_looking() -> None:
    for statement in statements():
        assert "*" not in actions(statement)
        makes = [
            one for one in actions(statement) if re.search(r"sagemaker:(Create|Delete|Update|Stop|Invoke|Add)", one)
        ]
        if makes:
            assert "bintally:project" in json.dumps(statement["Condition"])
            assert statement["Resource"] != "*"


def test_the_settings_and_further_fields_are_such_as_the_service_takes() -> None:
    first, second = (tomllib.loads(text) for text in blocks("toml"))
    settings = fill(CloudSettings, "cloud", file=first, environ={})
    hosting = HostingWish(endpoint="e", model="m", config="c", model_uri="s3://b/model.tar.gz")
    training = training_request("job", TrainingWish(channels={"data": "s3://b/bins"}), settings)
    plan = [("CreateTrainingJob", training), *hosting_requests(hosting, settings)]
    made = dict(complete(plan, second))
    assert set(second) <= set(EXTRA)
    assert made["CreateTrainingJob"]["OutputDataConfig"]["S3OutputPath"].endswith("/jobs")
    assert made["CreateTrainingJob"]["OutputDataConfig"]["KmsKeyId"]
    assert [one["VariantName"] for one in made["CreateEndpointConfig"]["ShadowProductionVariants"]] == ["Shadow"]


def commands() -> list[list[str]]:
    text = "\n".join(blocks("")).replace("\\\n", " ")
    lines = [line.partition("#")[0].split() for line in text.splitlines() if line.startswith("bintally ")]
    examples = re.findall(r"Example: (bintally cloud .*)", "\n".join(str(one.help) for one in verbs().values()))
    return lines + [line.split() for line in examples]


def verbs() -> dict[str, Any]:
    group = typer.main.get_command(app).commands["cloud"]  # type: ignore[attr-defined]
    return dict(group.commands)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_are_such_as_the_program_takes(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def test_every_verb_has_an_example() -> None:
    for name, command in verbs().items():
        assert f"Example: bintally cloud {name}" in command.help, name
