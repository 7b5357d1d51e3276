"""What can be set about the service on this machine."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """The service's places and limits. Its addresses are this machine's loopback, always.

    Attributes:
        port: of the service; 0 takes a free one.
        s3_port: of the bucket's server; 0 takes a free one.
        s3_endpoint: URL of another S3 server to use instead, with credentials from the usual chain.
        bucket: made at the start when it is missing.
        region: where the service says that it is.
        account: whose account it says that it is.
        parallel_jobs: trainings and batch transforms that run at the same time; further ones wait.
        training_stop_s: from SIGTERM to SIGKILL for a training.
        hosting_stop_s: the same for an endpoint.
        healthy_s: within it an endpoint's program answers /ping.
        invoke_s: within it an endpoint answers a request.
        sync_s: checkpoints are copied to the bucket this often.
        interrupt_s: a spot training is interrupted once, this long after it started to train; 0 never.
        quota: instances of one type in use at the same time, for trainings, endpoints and transforms each.
        quotas: other such limits, as in "ml.p3.2xlarge=0".
        faults: refusals to rehearse, as in "CreateTrainingJob=ThrottlingException:2" (the first two calls are
            refused) or "TrainingJob=CapacityError" (one training gets no machine).
        keep_trees: leave the folders of ended jobs, to look into.
    """

    port: Port = 8771
    s3_port: Port = 8772
    s3_endpoint: str = ""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "bintally"
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "us-east-1"
    account: Annotated[str, Field(pattern=r"^\d{12}$")] = "000000000000"
    parallel_jobs: Annotated[int, Field(ge=1)] = 2
    training_stop_s: Positive = 120.0
    hosting_stop_s: Positive = 30.0
    healthy_s: Positive = 480.0
    invoke_s: Positive = 60.0
    sync_s: Positive = 10.0
    interrupt_s: Annotated[float, Field(ge=0)] = 0.0
    quota: Annotated[int, Field(ge=0)] = 20
    quotas: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    keep_trees: bool = False

    def __post_init__(self) -> None:
        for text in self.quotas:
            if not re.fullmatch(r"ml\.[\w.]+=\d+", text):
                raise ValueError(f"quotas: {text!r}: write it as ml.p3.2xlarge=0")
        for text in self.faults:
            if not re.fullmatch(r"\w+=\w+(:\d+)?", text):
                raise ValueError(f"faults: {text!r}: write it as CreateTrainingJob=ThrottlingException:2")

    def quota_of(self, instance_type: str) -> int:
        """How many instances of a type may be in use at the same time."""
        for text in self.quotas:
            name, _, num = text.partition("=")
            if name == instance_type:
                return int(num)
        return self.quota
