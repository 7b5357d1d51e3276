"""The settings of the managed way, [cloud]: where things go, who may do them, on what machines, and at what cost."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from bintally.errors import SettingsError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Strategy = Literal["Bayesian", "Random", "Hyperband", "Grid"]

TAG = "bintally:project"
"""The tag on everything that bintally makes with the service; its value is `CloudSettings.project`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """What every request is made of. Credentials are none of it: they come from boto3's usual chain.

    Attributes:
        project: value of the tag `bintally:project` on all that is made, and how names begin.
        region: AWS_REGION, or that of the profile, when empty.
        bucket: for what jobs write: models, outputs, checkpoints.
        prefix: and below what in it.
        role: ARN of the role that the service takes on to run things; docs/aws-first-run.md has its policy.
        image_train: container image of a training, in the registry of the region.
        image_serve: container image of an endpoint or a batch.
        train_instance: machine of a training.
        train_instances: how many of them; more than one train data-parallel.
        train_volume_gb: disk of each.
        train_hours: after so long a training is stopped; its best epoch is kept.
        train_input: "File" copies the photos first, "FastFile" streams them as they are read.
        spot: take spare capacity, cheaper and interruptible; needs a bucket, for the checkpoints.
        spot_wait_hours: how long beyond `train_hours` a spot training may wait for capacity.
        tune_strategy: how a tuning chooses what to try.
        tune_jobs: trainings of a tuning in all.
        tune_parallel: and at once.
        tune_objective: the metric that decides, of `bintally.cloud.metrics.METRICS`.
        tune_early_stopping: whether the service stops trainings that look worse than others ("Auto"); Hyperband
            does so in its own way.
        tune_seed: of the search; none when negative.
        serve_instance: machine of an endpoint.
        serve_instances: how many of them.
        serverless_memory_mb: memory of a serverless endpoint, whole GB from 1,024 to 6,144.
        serverless_concurrency: photos that it counts at once, at most.
        scale_target: photos a minute and machine that autoscaling aims at.
        scale_in_s: seconds that autoscaling waits between two removals of a machine.
        scale_out_s: and between two additions.
        batch_instance: machine of a batch.
        batch_instances: how many of them.
        batch_concurrency: photos sent to a machine at once; 0 leaves it to the container.
        cost_limit: in US dollars; what may cost more is asked about first.
        attempts: how often a request is sent in all when the service is busy or out of reach; waits double in between.
        poll_s: seconds between two looks at a job; 0 is 10, or half a second for the service on this machine.
        patience_s: how long following goes on while the service cannot be reached.
    """

    project: Annotated[str, Field(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,30}$")] = "bintally"
    region: str = ""
    bucket: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$")] = ""
    prefix: Annotated[str, Field(pattern=r"^([^/].*[^/]|[^/])?$")] = "bintally"
    role: str = ""
    image_train: str = ""
    image_serve: str = ""
    train_instance: str = "ml.m5.xlarge"
    train_instances: Count = 1
    train_volume_gb: Count = 30
    train_hours: Annotated[float, Field(gt=0, le=24 * 28)] = 2.0
    train_input: Literal["File", "FastFile"] = "File"
    spot: bool = False
    spot_wait_hours: Annotated[float, Field(ge=0, le=24 * 28)] = 2.0
    tune_strategy: Strategy = "Bayesian"
    tune_jobs: Count = 10
    tune_parallel: Count = 2
    tune_objective: str = "validation:nll"
    tune_early_stopping: Literal["Off", "Auto"] = "Off"
    tune_seed: int = -1
    serve_instance: str = "ml.c5.large"
    serve_instances: Count = 1
    serverless_memory_mb: Annotated[int, Field(ge=1024, le=6144, multiple_of=1024)] = 3072
    serverless_concurrency: Annotated[int, Field(ge=1, le=200)] = 5
    scale_target: Positive = 600.0
    scale_in_s: Annotated[int, Field(ge=0)] = 300
    scale_out_s: Annotated[int, Field(ge=0)] = 60
    batch_instance: str = "ml.c5.xlarge"
    batch_instances: Count = 1
    batch_concurrency: Annotated[int, Field(ge=0)] = 0
    cost_limit: Annotated[float, Field(ge=0)] = 5.0
    attempts: Count = 8
    poll_s: Annotated[float, Field(ge=0)] = 0.0
    patience_s: Annotated[float, Field(ge=0)] = 900.0

    def needed(self, key: str) -> str:
        """A setting that has no default and that this request cannot do without.

        Raises:
            SettingsError: it is not set; the message says how.
        """
        value = str(getattr(self, key))
        if not value:
            flag = key.partition("_")[0]
            raise SettingsError(
                f"{_WHAT[key]} is not set: give --{flag}, the variable BINTALLY_CLOUD_{key.upper()}, or {key} under "
                "[cloud] in the file of --config; docs/aws-first-run.md says where it comes from"
            )
        return value

    def settled(self, *, here: bool) -> "CloudSettings":
        """The settings with what depends on where the service is.

        The service on this machine looks at neither roles nor images, and has a bucket of its own: what is not set of
        these gets a stand-in, so that the same commands run there with no settings at all.

        Args:
            here: whether the service runs on this machine.
        """
        if not here:
            return self if self.poll_s else replace(self, poll_s=10.0)
        return replace(
            self,
            bucket=self.bucket or "bintally",
            role=self.role or "arn:aws:iam::000000000000:role/bintally-local",
            image_train=self.image_train or "bintally:train",
            image_serve=self.image_serve or "bintally:serve",
            poll_s=self.poll_s or 0.5,
        )

    def uri(self, *parts: str) -> str:
        """A place in the bucket, below the prefix: `s3://bucket/prefix/part/…`."""
        return "/".join(["s3:/", self.needed("bucket"), *filter(None, [self.prefix]), *parts])


_WHAT = {
    "bucket": "the bucket for what jobs write",
    "role": "the role that the service takes on",
    "image_train": "the container image of trainings",
    "image_serve": "the container image of endpoints",
}
