import pytest

from bintally.cloud.local.wire import ServiceError
from tests.cloud.local.running import Cloud


def test_quotas(cloud: Cloud) -> None:
    shared = cloud.service.shared
    shared.check_quota("ml.m5.large", "training job", 2, 18)
    with pytest.raises(
        ServiceError, match=r"limit 'ml\.m5\.large for training job usage' is 20 Instances, with"
    ) as caught:
        shared.check_quota("ml.m5.large", "training job", 3, 18)
    assert caught.value.code == "ResourceLimitExceeded"


def test_a_program_finds_the_bucket(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "mine")
    environ = cloud.service.shared.cloud_environ()
    assert environ["AWS_ENDPOINT_URL_S3"] == cloud.service.access.endpoint
    assert environ["AWS_ACCESS_KEY_ID"] == cloud.service.access.access_key
    assert "AWS_SESSION_TOKEN" not in environ


def test_waiting_for_room_ends_with_a_stop(cloud: Cloud) -> None:
    assert not cloud.service.shared.wait_for_room(lambda: True)
