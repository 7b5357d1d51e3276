"""Settings of the server, and what a hosting container says."""

from pathlib import Path

import pytest

from bintally.errors import SettingsError
from bintally.serve.options import ServeSettings, hosting_flags, hosting_model
from bintally.settings import fill


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="max_photos"):
        fill(ServeSettings, "serve", environ={}, flags={"queue": 4})
    with pytest.raises(SettingsError, match="max_body_mb"):
        fill(ServeSettings, "serve", environ={}, flags={"max_body_mb": 1000})
    with pytest.raises(SettingsError, match="token"):
        fill(ServeSettings, "serve", environ={}, flags={"token": "naïve"})


def test_a_token_from_the_environment_shows_in_no_message() -> None:
    settings = fill(ServeSettings, "serve", environ={"BINTALLY_SERVE_TOKEN": "s3cret"})
    assert settings.token == "s3cret"
    assert "s3cret" not in repr(settings)


def test_a_hosting_container_listens_everywhere_on_its_port() -> None:
    assert hosting_flags({}) == {"host": "0.0.0.0"}
    flags = hosting_flags({"SAGEMAKER_BIND_TO_PORT": "8085"})
    settings = fill(ServeSettings, "serve", file={"serve": flags}, environ={})
    assert (settings.host, settings.port) == ("0.0.0.0", 8085)
    ours = fill(ServeSettings, "serve", file={"serve": flags}, environ={"BINTALLY_SERVE_PORT": "9"})
    assert ours.port == 9


def test_the_hosting_model_lies_under_a_root_that_can_be_set() -> None:
    assert hosting_model({}) == Path("/opt/ml/model")
    assert hosting_model({"BINTALLY_OPT_ML": "/elsewhere"}) == Path("/elsewhere/model")
