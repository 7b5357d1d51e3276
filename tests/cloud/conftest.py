"""The stand-in for the service, and a client of it."""

import os
from collections.abc import Iterator

import pytest

from bintally.cloud.follow import Clock
from bintally.cloud.options import CloudSettings
from bintally.cloud.service import Service
from tests.cloud import stand_in as wire


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.StandIn]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "BINTALLY_CLOUD_")):
            monkeypatch.delenv(name)
    with wire.serving() as served:
        for name, value in wire.environment(served.url).items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.fixture
def settings() -> CloudSettings:
    return CloudSettings(
        bucket="the-bucket",
        role="arn:aws:iam::123456789012:role/bintally",
        image_train="123456789012.dkr.ecr.us-east-1.amazonaws.com/bintally:train",
        image_serve="123456789012.dkr.ecr.us-east-1.amazonaws.com/bintally:serve",
        attempts=2,
        poll_s=1.0,
    )


@pytest.fixture
def service(stand_in: wire.StandIn, settings: CloudSettings) -> Service:
    return Service(settings)


class Hours:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time, sleep=self.sleep)


@pytest.fixture
def clock() -> Clock:
    return Hours().clock()
