"""One service for all tests of its operations; what they make has names of its own."""

from collections.abc import Iterator

import pytest

from tests.cloud.local.running import Cloud


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    running = Cloud(tmp_path_factory.mktemp("cloud"))
    yield running
    running.stop()
