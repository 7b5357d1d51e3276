import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from bintally.cloud.local.running import interrupted_reason, transition
from tests.cloud.local.running import Cloud, unique, wait_for


def test_steps_follow_each_other() -> None:
    job: dict[str, Any] = {}
    for status in ("Starting", "Training", "Completed"):
        job |= transition(job, status)
    steps = job["SecondaryStatusTransitions"]
    assert [one["Status"] for one in steps] == ["Starting", "Training", "Completed"]
    assert all("EndTime" in one for one in steps)
    assert job["SecondaryStatus"] == "Completed"


def test_reasons_name_the_checkpoints() -> None:
    assert "goes on from what s3://b/c holds" in interrupted_reason({"CheckpointConfig": {"S3Uri": "s3://b/c"}})
    assert "no CheckpointConfig" in interrupted_reason({})


@pytest.mark.slow
def test_a_spot_training_is_interrupted_and_goes_on(made: Callable[..., Cloud]) -> None:
    cloud = made(interrupt_s=0.5)
    name = cloud.train(
        HyperParameters={"epochs": "40", "seconds": "0.05"},
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
        CheckpointConfig={"S3Uri": f"s3://bintally/{unique('kept')}"},
    )
    job = cloud.trained(name)
    assert job["TrainingJobStatus"] == "Completed", job
    steps = [one["Status"] for one in job["SecondaryStatusTransitions"]]
    assert steps.count("Interrupted") == 1
    assert steps.count("Training") == 2
    begins = [line for line in cloud.lines("/aws/sagemaker/TrainingJobs", name) if line.startswith("begins")]
    assert len(begins) == 2
    assert begins[0] == "begins at epoch 0" != begins[1]


@pytest.mark.slow
def test_a_full_machine_lets_jobs_wait(made: Callable[..., Cloud]) -> None:
    cloud = made(parallel_jobs=1, faults=("TrainingJob=CapacityError",))
    lost = cloud.trained(cloud.train())
    assert lost["FailureReason"].startswith("CapacityError: Unable to provision requested ML compute capacity")
    first = cloud.train(HyperParameters={"epochs": "1", "seconds": "300"})
    cloud.trained(first, lambda job: job["SecondaryStatus"] == "Training")
    second, third = cloud.train(), cloud.train()
    for name in (second, third):
        cloud.trained(name, lambda job: job["SecondaryStatus"] == "Pending")
    cloud.sagemaker.stop_training_job(TrainingJobName=third)
    assert cloud.trained(third)["SecondaryStatus"] == "Stopped"
    cloud.sagemaker.stop_training_job(TrainingJobName=first)
    assert cloud.trained(second)["TrainingJobStatus"] == "Completed"


@pytest.mark.slow
def test_what_ran_when_the_service_died(made: Callable[..., Cloud]) -> None:
    # The service's end is orderly here; that a killed one leaves no programs is test_children's.
    cloud = made()
    kept = {"CheckpointConfig": {"S3Uri": "s3://bintally/kept"}}
    name = cloud.train(HyperParameters={"epochs": "9", "seconds": "300"}, **kept)
    done = cloud.train(HyperParameters={"epochs": "1"})
    cloud.trained(done)
    endpoint = cloud.deploy(cloud.config(cloud.model()))
    cloud.settled(endpoint)
    pid = cloud.ask(endpoint, b"pid")
    wait_for(lambda: cloud.told(name), bool)
    secret = cloud.service.access
    cloud.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)

    again = made()
    assert (again.service.access.access_key, again.service.access.secret_key) == (
        secret.access_key,
        secret.secret_key,
    )
    job = again.trained(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert (
        "a new job with the same CheckpointConfig goes on from what s3://bintally/kept holds" in job["FailureReason"]
    )
    assert again.trained(done)["TrainingJobStatus"] == "Completed"
    assert "the checkpoint is written" in "".join(again.lines("/aws/sagemaker/TrainingJobs", name))
    assert again.settled(endpoint)["EndpointStatus"] == "InService"
    assert again.ask(endpoint, b"pid") != pid
    retry = again.train(HyperParameters={"epochs": "1"}, **kept)
    assert again.trained(retry)["TrainingJobStatus"] == "Completed"
    assert again.lines("/aws/sagemaker/TrainingJobs", retry)[0] == "begins at epoch 1"
