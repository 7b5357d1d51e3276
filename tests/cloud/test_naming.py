import re

import pytest

from bintally.cloud.naming import LIMITS, cleaned, make_name
from bintally.cloud.shapes import service_model

SHAPES = {"training": "TrainingJobName", "tuning": "HyperParameterTuningJobName", "batch": "TransformJobName"}
SHAPES |= {"model": "ModelName", "endpoint": "EndpointName", "config": "EndpointConfigName"}


@pytest.mark.parametrize("kind", sorted(LIMITS))
@pytest.mark.parametrize("project", ["a", "bintally", "x" * 31, "a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p"])
@pytest.mark.parametrize("what", ["", "seed", "my recipe.v2", "y" * 80])
def test_names_are_such_as_the_service_takes(kind: str, project: str, what: str) -> None:
    name = make_name(kind, project, what)
    shape = service_model("sagemaker")["shapes"][SHAPES[kind]]
    assert re.fullmatch(shape["pattern"], name)
    assert len(name) <= shape["max"] == LIMITS[kind]
    assert name.startswith(project[:8].rstrip("-"))


def test_names_say_when_and_differ() -> None:
    assert make_name("training", "bintally", "seed", now=0, token="abc") == "bintally-seed-0101-000000-abc"
    assert len({make_name("tuning", "bintally", now=0) for _ in range(20)}) > 15


def test_cleaned() -> None:
    assert cleaned("_my recipe.v2_") == "my-recipe-v2"
