"""The service on this machine, and a project of its own for each test."""

import os
from collections.abc import Iterator

import pytest

from bintally.cloud.local.shared import Programs
from tests.cloud.local.running import PROGRAMS, Cloud, unique


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    programs = Programs(train=PROGRAMS.train)
    running = Cloud(tmp_path_factory.mktemp("cloud"), programs, quotas=("ml.p3.2xlarge=0",), healthy_s=20.0)
    running.put("bins/train/1/a.jpg")
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def surroundings(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "BINTALLY_CLOUD_")):
            monkeypatch.delenv(name)
    found = cloud.service.environment(cloud.url) | {"BINTALLY_CLOUD_POLL_S": "0.1", "BINTALLY_CLOUD_ATTEMPTS": "3"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def project() -> str:
    """Each test has a project of its own, and finds only its own things."""
    return unique("project")
