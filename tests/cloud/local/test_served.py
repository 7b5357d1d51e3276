from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bintally.cloud.local.served import Served
from tests.cloud.local.running import Cloud

FIELDS = ("Image", "ModelDataUrl", "Environment")


@pytest.fixture
def made(cloud: Cloud, tmp_path: Path) -> Iterator[Any]:
    programs: list[Served] = []

    def make(lines: list[str], **says: Any) -> Served:
        container = cloud.sagemaker.describe_model(ModelName=cloud.model(**says))["PrimaryContainer"]
        container = {key: container[key] for key in FIELDS}
        served = Served(cloud.service.shared, container, tmp_path / "tree", lines.append, what="variant v")
        programs.append(served)
        served.start()
        return served

    yield make
    for one in programs:
        one.stop()


def test_a_life(made: Any, tmp_path: Path) -> None:
    lines: list[str] = []
    served = made(lines)
    assert served.wait_ready(60)
    assert served.ask("POST", "/invocations", b"x", {"Content-Type": "a/b"}, 10).status == 200
    assert lines == [f"serving {served.port}"]
    served.stop()
    assert served.is_over
    assert not served.wait_ready(1)
    assert not (tmp_path / "tree").exists()
    with pytest.raises(OSError, match="refused"):
        served.ask("GET", "/ping", b"", {}, 5)


def test_an_answer_in_time(made: Any) -> None:
    served = made([], slow_s=5)
    assert served.wait_ready(60)
    with pytest.raises(TimeoutError):
        served.ask("POST", "/invocations", b"slow", {}, 0.2)


def test_one_that_never_starts(made: Any) -> None:
    served = made([], broken=True)
    assert not served.wait_ready(60)
    assert served.is_over
    assert served.reason.startswith("The primary container for variant v did not pass the ping health check.")
