from typing import Any

import pytest

from bintally.cloud.local.options import LocalSettings
from bintally.errors import SettingsError
from bintally.settings import fill


def test_quotas() -> None:
    settings = LocalSettings(quota=5, quotas=("ml.p3.2xlarge=0",))
    assert (settings.quota_of("ml.p3.2xlarge"), settings.quota_of("ml.m5.large")) == (0, 5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 70000),
        ("bucket", "Big Bucket"),
        ("account", "12"),
        ("region", "here"),
        ("quotas", ["ml.p3=many"]),
        ("faults", ["CreateModel"]),
        ("parallel_jobs", 0),
    ],
)
def test_limits(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=key):
        fill(LocalSettings, "local", file={"local": {key: value}}, environ={})
