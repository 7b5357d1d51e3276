"""Training jobs: created, described, listed, stopped, deleted; each runs in a thread of its own."""

import re
import shutil
import time
from typing import Any

from bintally.cloud.local.names import TRAINING, list_page
from bintally.cloud.local.running import TrainingRun, interrupted_reason, transition
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import Record, now, shown
from bintally.cloud.local.tree import CHECKPOINTS, OPT_ML
from bintally.cloud.local.wire import ServiceError, validation

RUNNING = {"InProgress", "Stopping"}
_NOT_SHOWN = {"Tags", "TrainingJobName", "SessionChainingConfig"}


class Trainings:
    """Every training job."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._runs: dict[str, TrainingRun] = {}

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on training jobs."""
        return {
            ("sagemaker", "CreateTrainingJob"): self._create,
            ("sagemaker", "DescribeTrainingJob"): self._describe,
            ("sagemaker", "ListTrainingJobs"): lambda params: list_page(self._shared.state, TRAINING, params),
            ("sagemaker", "StopTrainingJob"): self._stop,
            ("sagemaker", "DeleteTrainingJob"): self._delete,
        }

    def resume(self) -> None:
        """Marks the jobs that ran when the last service ended."""
        for job in self._shared.state.all(TRAINING.state):
            if job["TrainingJobStatus"] in RUNNING:
                self._shared.state.change(
                    TRAINING.state,
                    job["TrainingJobName"],
                    **transition(job, "Failed"),
                    TrainingJobStatus="Failed",
                    FailureReason=interrupted_reason(job),
                    TrainingEndTime=now(),
                )
        shutil.rmtree(self._shared.trees / TRAINING.state, ignore_errors=True)

    def shut_down(self) -> None:
        """Ends every job that runs; their checkpoints are in the bucket then."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop("shutdown")
        until = time.monotonic() + 60
        for run in runs:
            run.join(max(0.1, until - time.monotonic()))

    def create(self, params: dict[str, Any], **more: Any) -> str:
        """Makes a job and starts it.

        Args:
            params: of CreateTrainingJob.
            more: further members of the job, such as the tuning job's that it is part of.

        Returns:
            Its ARN.

        Raises:
            ServiceError: it cannot be carried out, its name is taken, or there are too many.
        """
        check_training(params)
        name = params["TrainingJobName"]
        arn = self._shared.place.arn(TRAINING, name)
        config = params["ResourceConfig"]
        wanted = config.get("InstanceCount", 1)
        used = sum(
            one["ResourceConfig"].get("InstanceCount", 1)
            for one in self._shared.state.all(TRAINING.state)
            if one["TrainingJobStatus"] in RUNNING
            and one["ResourceConfig"].get("InstanceType") == config["InstanceType"]
        )
        usage = "spot training job" if params.get("EnableManagedSpotTraining") else "training job"
        self._shared.check_quota(config["InstanceType"], usage, wanted, used)
        when = now()
        job: Record = {
            "TrainingJobName": name,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "InProgress",
            **{key: value for key, value in params.items() if key not in _NOT_SHOWN},
            "CreationTime": when,
            "LastModifiedTime": when,
            "_tags": params.get("Tags", []),
            **more,
        }
        for member in (
            "EnableNetworkIsolation",
            "EnableInterContainerTrafficEncryption",
            "EnableManagedSpotTraining",
        ):
            job.setdefault(member, False)
        job |= transition(job, "Starting")

        def taken() -> ServiceError:
            return ServiceError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a training job with this name "
                f"already exists ({arn})",
            )

        self._shared.state.add(TRAINING.state, name, job, taken)
        run = TrainingRun(self._shared, name)
        self._runs[name] = run
        run.start()
        return arn

    def get(self, name: str) -> Record:
        """A job's record, with the metrics that it has told so far. Raises ServiceError when there is none."""
        job = self._shared.state.get(TRAINING.state, name)
        if job is None:
            raise validation("Requested resource not found.")
        run = self._runs.get(name)
        if run is not None and run.final and job["TrainingJobStatus"] in RUNNING:
            job["FinalMetricDataList"] = run.final_metrics()
            job["_history"] = {metric: list(values) for metric, values in run.history.items()}
        return job

    def stop(self, name: str) -> None:
        """Asks a job that runs to end; one that has ended is left alone."""
        allowed = self._shared.state.change_if(
            TRAINING.state, name, lambda job: job["TrainingJobStatus"] == "InProgress", TrainingJobStatus="Stopping"
        )
        if allowed is not None and name in self._runs:
            self._runs[name].stop("stopped")

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"TrainingJobArn": self.create(params)}

    def _describe(self, params: dict[str, Any]) -> dict[str, Any]:
        return shown(self.get(params["TrainingJobName"]))

    def _stop(self, params: dict[str, Any]) -> None:
        job = self.get(params["TrainingJobName"])
        if job["TrainingJobStatus"] not in RUNNING:
            raise validation(
                f"The request was rejected because the training job is in status {job['TrainingJobStatus']}."
            )
        self.stop(params["TrainingJobName"])

    def _delete(self, params: dict[str, Any]) -> None:
        name = params["TrainingJobName"]
        job = self._shared.state.get(TRAINING.state, name)
        if job is None:
            raise ServiceError("ResourceNotFound", f"Could not find training job {name}.")
        if job["TrainingJobStatus"] in RUNNING:
            raise ServiceError("ResourceInUse", f"Training job {name} is in status {job['TrainingJobStatus']}.")
        self._shared.state.remove(TRAINING.state, name)
        self._runs.pop(name, None)


def check_training(params: dict[str, Any]) -> None:
    """What the service looks at beyond its model, and what this one cannot carry out.

    Args:
        params: of CreateTrainingJob.

    Raises:
        ServiceError: there is something of that.
    """
    algorithm = params.get("AlgorithmSpecification", {})
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        raise validation("You must provide either an algorithm name or a training image, and not both.")
    if "AlgorithmName" in algorithm:
        raise validation("The service on this machine has no algorithms of its own: name a TrainingImage.")
    if algorithm.get("TrainingInputMode") == "Pipe":
        raise validation("The service on this machine copies channels: TrainingInputMode File or FastFile, not Pipe.")
    if "ContainerEntrypoint" in algorithm or "ContainerArguments" in algorithm:
        raise validation(
            "The service on this machine has no containers: it starts `bintally train`, whatever the image."
        )
    config = params.get("ResourceConfig", {})
    if "InstanceType" not in config:
        raise validation("ResourceConfig needs an InstanceType here.")
    for one in algorithm.get("MetricDefinitions", []):
        try:
            re.compile(one["Regex"])
        except re.error as error:
            raise validation(f"Invalid regex for metric {one['Name']}: {error}") from error
    channels = [one["ChannelName"] for one in params.get("InputDataConfig", [])]
    if len(set(channels)) < len(channels):
        raise validation("Channel names must be unique.")
    for one in params.get("InputDataConfig", []):
        source = one["DataSource"].get("S3DataSource")
        if source is None or source["S3DataType"] not in {"S3Prefix", "ManifestFile"}:
            raise validation(
                f"Channel {one['ChannelName']}: the service on this machine reads S3DataSource of S3DataType S3Prefix "
                "or ManifestFile."
            )
        if one.get("InputMode") == "Pipe":
            raise validation(f"Channel {one['ChannelName']}: InputMode File or FastFile, not Pipe.")
    condition, spot = params.get("StoppingCondition", {}), params.get("EnableManagedSpotTraining", False)
    longest = condition.get("MaxWaitTimeInSeconds")
    if spot and (longest is None or longest < condition.get("MaxRuntimeInSeconds", 86400)):
        raise validation(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds"
        )
    if longest is not None and not spot:
        raise validation(
            "Invalid MaxWaitTimeInSeconds. MaxWaitTimeInSeconds above 0 is not supported without EnableManagedSpotTraining"
        )
    path = params.get("CheckpointConfig", {}).get("LocalPath", CHECKPOINTS)
    if ".." in path.split("/") or not path.startswith(f"{OPT_ML}/"):
        raise validation(
            f"CheckpointConfig: the service on this machine keeps checkpoints below {OPT_ML}, not in {path}."
        )
