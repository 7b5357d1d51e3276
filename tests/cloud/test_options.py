import pytest

from bintally.cloud.options import CloudSettings
from bintally.errors import SettingsError
from bintally.settings import fill


def test_settings_come_from_variables_and_files() -> None:
    found = fill(
        CloudSettings,
        "cloud",
        file={"cloud": {"bucket": "from-file", "spot": True}},
        environ={"BINTALLY_CLOUD_BUCKET": "from-variable", "BINTALLY_CLOUD_TRAIN_HOURS": "1.5"},
        flags={"train_instances": 2},
    )
    assert (found.bucket, found.spot, found.train_hours, found.train_instances) == ("from-variable", True, 1.5, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("project", "no blanks"),
        ("bucket", "Upper"),
        ("prefix", "/x"),
        ("serverless_memory_mb", "1500"),
        ("tune_strategy", "TPE"),
    ],
)
def test_what_the_service_would_refuse_is_refused_here(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=key):
        fill(CloudSettings, "cloud", environ={}, flags={key: value})


def test_what_is_needed_is_named() -> None:
    with pytest.raises(SettingsError, match=r"--image, the variable BINTALLY_CLOUD_IMAGE_SERVE"):
        CloudSettings().needed("image_serve")


def test_places_in_the_bucket() -> None:
    assert CloudSettings(bucket="bins").uri("jobs", "x") == "s3://bins/bintally/jobs/x"
    assert CloudSettings(bucket="bins", prefix="").uri("jobs") == "s3://bins/jobs"


def test_the_service_here_needs_no_settings() -> None:
    there, here = CloudSettings().settled(here=False), CloudSettings().settled(here=True)
    assert not there.role
    assert there.poll_s == 10
    assert here.needed("role").startswith("arn:aws:iam::")
    assert here.needed("bucket")
    assert here.poll_s < 1
    assert CloudSettings(bucket="mine", poll_s=3).settled(here=True).bucket == "mine"
    assert CloudSettings(poll_s=3).settled(here=True).poll_s == 3
