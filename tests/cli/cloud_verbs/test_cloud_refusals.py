"""What the service refuses, throttles or loses: a clear line each, and nothing left running."""

import re
from pathlib import Path

import pytest

from bintally.errors import (
    BintallyError,
    CloudAccessError,
    CloudError,
    CloudLimitError,
)
from tests.cli.cloud_verbs.asking import DATA, call, model_folder, told
from tests.cloud.local.running import Cloud, unique
from tests.cloud.opt_ml import draw_bin


def rehearse(cloud: Cloud, *orders: str) -> None:
    from bintally.cloud.local.faults import Faults

    cloud.service.shared.faults._left = Faults(orders)._left


def test_throttling_is_waited_out(cloud: Cloud, project: str) -> None:
    rehearse(cloud, "CreateTrainingJob=ThrottlingException:1", "DescribeTrainingJob=ThrottlingException:1")
    done = call("train", DATA, "--project", project)
    assert "Completed" in done.stdout
    assert "the service asks to slow down (ThrottlingException): waiting, then trying again" in done.stderr


@pytest.mark.parametrize(
    ("fault", "kind", "match"),
    [
        ("CreateTrainingJob=ThrottlingException:9", CloudLimitError, "asked to slow down 3 times"),
        (
            "CreateTrainingJob=AccessDeniedException:1",
            CloudAccessError,
            "user/local may not do sagemaker:CreateTrainingJob",
        ),
        ("CreateTrainingJob=ExpiredTokenException:1", CloudAccessError, "credentials have expired"),
        ("CreateTrainingJob=ResourceLimitExceeded:1", CloudLimitError, "a quota of the account"),
        ("TrainingJob=CapacityError", CloudLimitError, "no free machine of that type"),
    ],
)
def test_refusals_are_clear_and_leave_nothing_running(
    cloud: Cloud, project: str, fault: str, kind: type[Exception], match: str
) -> None:
    rehearse(cloud, fault)
    try:
        with pytest.raises(kind, match=match):
            call("train", DATA, "--project", project)
    finally:
        rehearse(cloud)
    assert [one for one in told("status", "--project", project) if one["runs"]] == []


def test_a_job_that_cannot_be_followed_is_not_forgotten(cloud: Cloud, project: str) -> None:
    rehearse(cloud, "DescribeTrainingJob=AccessDeniedException:1")
    job = unique("lost")
    with pytest.raises(CloudAccessError, match=f"the training {job} goes on.*bintally cloud stop {job}"):
        call("train", DATA, "--project", project, "--name", job, "--hyperparameter", "seconds=300")
    assert told("stop", job)["status"] == "Stopped"
    rehearse(cloud, "CreateTrainingJob=InternalFailure:3")
    with pytest.raises(CloudError, match=f"whether training {job}-2 was made all the same, says .*status {job}-2"):
        call("train", DATA, "--project", project, "--name", f"{job}-2")


DENIED, THROTTLED, EXPIRED = "AccessDeniedException:1", "ThrottlingException:9", "ExpiredTokenException:1"
SAID = {
    DENIED: "may not do sagemaker:{0}|not authorized to perform: sagemaker:{0}",
    THROTTLED: r"{0}: the service asked to slow down 2 times|Rate exceeded \(2 attempts\)",
    EXPIRED: "security token .* is expired",
}
MODEL = "s3://bintally/m/model.tar.gz"


@pytest.mark.parametrize(
    ("code", "operation", "words"),
    [
        (DENIED, "CreateHyperParameterTuningJob", f"tune {DATA}"),
        (THROTTLED, "CreateHyperParameterTuningJob", f"tune {DATA}"),
        (DENIED, "DescribeHyperParameterTuningJob", f"tune {DATA}"),
        (THROTTLED, "CreateModel", f"deploy {MODEL}"),
        (DENIED, "CreateEndpointConfig", f"deploy {MODEL}"),
        (THROTTLED, "CreateEndpoint", f"deploy {MODEL}"),
        (DENIED, "CreateTransformJob", f"batch {MODEL} {DATA}"),
        (THROTTLED, "CreateTransformJob", f"batch {MODEL} {DATA}"),
        (DENIED, "InvokeEndpoint", "predict nobody PHOTO"),
        (THROTTLED, "InvokeEndpoint", "predict nobody PHOTO --set predict.attempts=2"),
        (EXPIRED, "InvokeEndpoint", "predict nobody PHOTO"),
        (DENIED, "DescribeTrainingJob", "status nobody"),
        (DENIED, "ListTrainingJobs", "status"),
        (THROTTLED, "DescribeTrainingJob", "logs nobody"),
        (DENIED, "DescribeTrainingJob", "download nobody --to x"),
        (THROTTLED, "DescribeTrainingJob", "stop nobody"),
        (DENIED, "ListEndpoints", "cost --running"),
        (DENIED, "ListModels", "destroy --yes"),
    ],
    ids=lambda text: text.partition(":")[0].partition(" s3")[0].removesuffix("Exception"),
)
def test_every_verb_has_a_line_for_a_refusal(
    cloud: Cloud,
    project: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    operation: str,
    words: str,
) -> None:
    monkeypatch.setenv("BINTALLY_CLOUD_ATTEMPTS", "2")
    cloud.put("m/model.tar.gz")
    draw_bin(tmp_path / "bin.jpg", 1, seed=1)
    (tmp_path / "space.toml").write_text("[train]\nhead_lr = { low = 1e-4, high = 1e-1, log = true }\n")
    given = [str(tmp_path / "bin.jpg") if word == "PHOTO" else word for word in words.split()]
    if given[0] == "tune":
        given += ["--space", str(tmp_path / "space.toml"), "--objective", "validation:accuracy"]
        given += ["--jobs", "1", "--parallel", "1"]
    if given[0] != "predict":
        given += ["--project", project]
    rehearse(cloud, f"{operation}={code}")
    try:
        with pytest.raises(BintallyError, match=SAID[code].format(operation)) as caught:
            call(*given)
    finally:
        rehearse(cloud)
    assert "\n" not in str(caught.value)
    if given[0] in {"tune", "deploy", "batch"}:
        named = tuple(
            re.findall(r"the tuning (\S+) goes on by itself", str(caught.value))
        )  # its trainings begin so, too
        left = [one for one in told("status", "--project", project) if one["runs"] or one["sort"] != "training"]
        assert [one["name"] for one in left if not one["name"].startswith(named)] == []


def test_a_quota_of_nought(project: str) -> None:
    with pytest.raises(CloudLimitError, match=r"CreateTrainingJob: a quota of the account.*ml\.p3\.2xlarge"):
        call("train", DATA, "--project", project, "--instance", "ml.p3.2xlarge")


def test_a_half_made_endpoint_is_undone(cloud: Cloud, project: str, tmp_path: Path) -> None:
    rehearse(cloud, "CreateEndpoint=ResourceLimitExceeded:1")
    try:
        with pytest.raises(CloudLimitError, match=r"quota.*removed again: configuration .*, model "):
            call("deploy", model_folder(tmp_path), "--project", project)
    finally:
        rehearse(cloud)
    assert told("status", "--project", project) == []
