"""One service for all tests of its operations; what they make has names of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cloud.local.running import Cloud


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    running = Cloud(tmp_path_factory.mktemp("cloud"))
    yield running
    running.stop()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Cloud]]:
    """Makes services with settings of their own, one after the other on one folder; none outlives the test."""
    running: list[Cloud] = []

    def make(**settings: object) -> Cloud:
        running.append(Cloud(tmp_path / "cloud", **settings))  # type: ignore[arg-type]
        return running[-1]

    yield make
    for one in running:
        one.stop()
