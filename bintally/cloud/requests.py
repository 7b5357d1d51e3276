"""The requests that make jobs and endpoints, as pure functions of settings and wishes.

Field names are the service's own (boto3's). Each answer is one request; nothing is sent here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bintally.cloud.metrics import LARGER_IS_BETTER, METRICS
from bintally.cloud.options import TAG, CloudSettings
from bintally.cloud.search import Ranges
from bintally.cloud.shapes import Request
from bintally.errors import SettingsError, UsageError

VARIANT = "AllTraffic"
"""The one variant of an endpoint."""

SERVERLESS_BODY_MB = 4
"""The largest request that a serverless endpoint takes; a server with instances takes the 6 MB that `serve` allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWish:
    """What is to be trained on what.

    Attributes:
        channels: channel → `s3://bucket/prefix` of its objects.
        hyperparameters: name → text, as `bintally train` reads them in a container.
        checkpoints: name of the job whose checkpoints to go on from; the job's own when empty.
    """

    channels: Mapping[str, str]
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = ""

    def __post_init__(self) -> None:
        for name, uri in self.channels.items():
            if not uri.startswith("s3://") or len(uri) <= len("s3://"):
                raise UsageError(f"channel {name}: {uri!r} is no s3://bucket/prefix; `bintally push` makes one")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingWish:
    """How a model is to be hosted.

    Attributes:
        endpoint: its name.
        model: name of its model.
        config: name of its configuration.
        model_uri: `s3://…/model.tar.gz`.
        serverless: without instances.
        scale: smallest and largest number of instances; None does not scale.
    """

    endpoint: str
    model: str
    config: str
    model_uri: str
    serverless: bool = False
    scale: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.scale and self.serverless:
            raise UsageError("a serverless endpoint scales by itself: leave --autoscale out")
        if self.scale and not 1 <= self.scale[0] <= self.scale[1]:
            raise UsageError(f"--autoscale {self.scale[0]}:{self.scale[1]}: give the fewest and the most, as in 1:4")


def training_request(name: str, wish: TrainingWish, settings: CloudSettings) -> Request:
    """`CreateTrainingJob`.

    Raises:
        SettingsError: the bucket, the role or the image is not set.
    """
    request: Request = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {**_algorithm(settings), "TrainingInputMode": settings.train_input},
        "HyperParameters": dict(wish.hyperparameters),
        **_training(wish, settings),
        "CheckpointConfig": {"S3Uri": settings.uri("checkpoints", wish.checkpoints or name)},
        "Tags": tags(settings),
    }
    return request


def tuning_request(name: str, wish: TrainingWish, ranges: Ranges, settings: CloudSettings) -> Request:
    """`CreateHyperParameterTuningJob`.

    Trainings of a tuning get no checkpoint place: they would all have the same one. An interrupted spot training of a
    tuning therefore starts again.

    Args:
        name: of the tuning job.
        wish: what each training gets; its hyperparameters are the fixed ones.
        ranges: what varies.
        settings: the machines, the strategy, the numbers of trainings.

    Raises:
        SettingsError: a setting both varies and is fixed, the objective is no metric, or something needed is not set.
    """
    both = [one for one in ranges.names if one in wish.hyperparameters]
    if both:
        raise SettingsError(f"{both[0]} varies in the search space and is also set: leave one of the two out")
    if settings.tune_objective not in METRICS:
        raise SettingsError(
            f"[cloud] tune_objective: no training tells {settings.tune_objective!r}; known are "
            f"{', '.join(one for one in METRICS if one.startswith('validation:'))}"
        )
    larger = settings.tune_objective in LARGER_IS_BETTER
    limits = {"MaxParallelTrainingJobs": settings.tune_parallel}
    if settings.tune_strategy != "Grid":  # a grid's own size is the only number that the service takes for it
        limits["MaxNumberOfTrainingJobs"] = settings.tune_jobs
    how: Request = {
        "Strategy": settings.tune_strategy,
        "HyperParameterTuningJobObjective": {
            "Type": "Maximize" if larger else "Minimize",
            "MetricName": settings.tune_objective,
        },
        "ResourceLimits": limits,
        "ParameterRanges": ranges.ranges,
        "TrainingJobEarlyStoppingType": settings.tune_early_stopping,
    }
    if settings.tune_strategy == "Hyperband":
        if settings.tune_early_stopping != "Off":
            raise SettingsError("[cloud] tune_early_stopping: Hyperband stops trainings by itself: leave it Off")
        epochs = wish.hyperparameters.get("train.epochs", "")
        if not epochs.isdigit():
            raise SettingsError("Hyperband needs the number of epochs: add --set train.epochs=10")
        how["StrategyConfig"] = {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": int(epochs)}}
    if settings.tune_seed >= 0:
        how["RandomSeed"] = settings.tune_seed
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": how,
        "TrainingJobDefinition": {
            "AlgorithmSpecification": {**_algorithm(settings), "TrainingInputMode": settings.train_input},
            "StaticHyperParameters": dict(wish.hyperparameters),
            **_training(wish, settings),
        },
        "Tags": tags(settings),
    }


def _algorithm(settings: CloudSettings) -> Request:
    definitions = [{"Name": name, "Regex": pattern} for name, pattern in METRICS.items()]
    return {"TrainingImage": settings.needed("image_train"), "MetricDefinitions": definitions}


def _training(wish: TrainingWish, settings: CloudSettings) -> Request:
    """What a training job and the trainings of a tuning job have in common."""
    runtime = round(settings.train_hours * 3600)
    stopping = {"MaxRuntimeInSeconds": runtime}
    if settings.spot:
        stopping["MaxWaitTimeInSeconds"] = runtime + round(settings.spot_wait_hours * 3600)
    return {
        "RoleArn": settings.needed("role"),
        "InputDataConfig": [_channel(name, uri) for name, uri in wish.channels.items()],
        "OutputDataConfig": {"S3OutputPath": settings.uri("jobs")},
        "ResourceConfig": {
            "InstanceType": settings.train_instance,
            "InstanceCount": settings.train_instances,
            "VolumeSizeInGB": settings.train_volume_gb,
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": settings.spot,
    }


def _channel(name: str, uri: str) -> Request:
    # The trailing stroke matters: a prefix without one also holds what merely begins alike.
    source = {"S3DataType": "S3Prefix", "S3Uri": uri.rstrip("/") + "/", "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def model_request(name: str, model_uri: str, settings: CloudSettings, *, body_mb: float = 0) -> Request:
    """`CreateModel`.

    Args:
        name: of the model.
        model_uri: `s3://…/model.tar.gz`.
        settings: image, role and project.
        body_mb: the largest request that its server takes; the server's own default when 0.

    Raises:
        UsageError: the model is no archive in a bucket.
        SettingsError: the role or the image is not set.
    """
    if not (model_uri.startswith("s3://") and model_uri.endswith(".tar.gz")):
        raise UsageError(f"{model_uri!r} is no s3://…/model.tar.gz")
    container: Request = {"Image": settings.needed("image_serve"), "ModelDataUrl": model_uri}
    if body_mb:
        container["Environment"] = {"BINTALLY_SERVE_MAX_BODY_MB": f"{body_mb:g}"}
    return {
        "ModelName": name,
        "PrimaryContainer": container,
        "ExecutionRoleArn": settings.needed("role"),
        "Tags": tags(settings),
    }


def hosting_requests(wish: HostingWish, settings: CloudSettings) -> list[tuple[str, Request]]:
    """What makes an endpoint, in order: `CreateModel`, `CreateEndpointConfig`, `CreateEndpoint`.

    Raises:
        UsageError: the model is no archive in a bucket.
        SettingsError: the role or the image is not set.
    """
    variant: Request = {"VariantName": VARIANT, "ModelName": wish.model, "InitialVariantWeight": 1.0}
    if wish.serverless:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": settings.serverless_memory_mb,
            "MaxConcurrency": settings.serverless_concurrency,
        }
    else:
        low, high = wish.scale or (settings.serve_instances, settings.serve_instances)
        variant["InstanceType"] = settings.serve_instance
        variant["InitialInstanceCount"] = min(max(settings.serve_instances, low), high)
    body_mb = SERVERLESS_BODY_MB if wish.serverless else 0
    config = {"EndpointConfigName": wish.config, "ProductionVariants": [variant], "Tags": tags(settings)}
    endpoint = {"EndpointName": wish.endpoint, "EndpointConfigName": wish.config, "Tags": tags(settings)}
    return [
        ("CreateModel", model_request(wish.model, wish.model_uri, settings, body_mb=body_mb)),
        ("CreateEndpointConfig", config),
        ("CreateEndpoint", endpoint),
    ]


def scaling_requests(wish: HostingWish, settings: CloudSettings) -> list[tuple[str, Request]]:
    """What makes an endpoint in service scale: none, or `RegisterScalableTarget` and `PutScalingPolicy`."""
    if wish.scale is None:
        return []
    target = scaled(wish.endpoint)
    return [
        ("RegisterScalableTarget", {**target, "MinCapacity": wish.scale[0], "MaxCapacity": wish.scale[1]}),
        (
            "PutScalingPolicy",
            {
                "PolicyName": f"{wish.endpoint}-photos",
                **target,
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": {
                    "TargetValue": settings.scale_target,
                    "PredefinedMetricSpecification": {
                        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
                    },
                    "ScaleInCooldown": settings.scale_in_s,
                    "ScaleOutCooldown": settings.scale_out_s,
                },
            },
        ),
    ]


def scaled(endpoint: str, variant: str = VARIANT) -> dict[str, str]:
    """How autoscaling names an endpoint's number of instances."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def batch_request(name: str, model: str, photos: str, to: str, settings: CloudSettings) -> Request:
    """`CreateTransformJob`: every object below a prefix is one photo, answered by an object `<key>.out`.

    Args:
        name: of the job.
        model: name of its model.
        photos: `s3://bucket/prefix`.
        to: `s3://bucket/prefix` for the answers.
        settings: machines and project.

    Raises:
        UsageError: a place is not in a bucket.
    """
    for place in (photos, to):
        if not place.startswith("s3://") or len(place) <= len("s3://"):
            raise UsageError(f"{place!r} is no s3://bucket/prefix")
    request: Request = {
        "TransformJobName": name,
        "ModelName": model,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": photos.rstrip("/") + "/"}},
            "ContentType": "image/jpeg",
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": to.rstrip("/") + "/",
            "Accept": "application/json",
            "AssembleWith": "None",
        },
        "TransformResources": {"InstanceType": settings.batch_instance, "InstanceCount": settings.batch_instances},
        "Tags": tags(settings),
    }
    if settings.batch_concurrency:
        request["MaxConcurrentTransforms"] = settings.batch_concurrency
    return request


def tags(settings: CloudSettings) -> list[dict[str, str]]:
    """The mark on all that bintally makes."""
    return [{"Key": TAG, "Value": settings.project}]
