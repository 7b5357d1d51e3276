"""A container's folders: the tree that is /opt/ml there, the files and variables that the service puts into it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bintally import files

OPT_ML = PurePosixPath("/opt/ml")
CHECKPOINTS = "/opt/ml/checkpoints"
INTERFACE = "lo"
"""The network between the hosts of a job: this machine's loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One host's tree.

    Attributes:
        root: what stands for /opt/ml.
        host: the host's name, such as "algo-1".
    """

    root: Path
    host: str

    @property
    def model(self) -> Path:
        """Where the model is written to, or found."""
        return self.root / "model"

    @property
    def output(self) -> Path:
        """Where other output is written to."""
        return self.root / "output" / "data"

    @property
    def failure(self) -> Path:
        """Where a failing program says why."""
        return self.root / "output" / "failure"

    def channel(self, name: str) -> Path:
        """Where a channel's files are."""
        return self.root / "input" / "data" / name

    def inside(self, path: str) -> Path:
        """The folder here that is `path`, a path below /opt/ml, there. Raises ValueError when it is none."""
        return self.root.joinpath(*PurePosixPath(path).relative_to(OPT_ML).parts)

    def reason(self) -> str:
        """What a failed program left as its reason, as far as the service shows it."""
        try:
            return self.failure.read_text(encoding="utf-8", errors="replace").strip()[:1024]
        except OSError:
            return ""


def write_tree(tree: Tree, job: Mapping[str, Any], hosts: Sequence[str]) -> None:
    """Makes the folders of a training host and writes what the program reads of its job.

    Args:
        tree: the host's.
        job: the job as DescribeTrainingJob answers it.
        hosts: the names of all hosts.
    """
    config = tree.root / "input" / "config"
    for folder in (config, tree.root / "input" / "data", tree.model, tree.output, tree.root / "checkpoints"):
        folder.mkdir(parents=True, exist_ok=True)
    # As strings, every one: that is how they come.
    files.write_json(config / "hyperparameters.json", dict(job.get("HyperParameters", {})))
    channels = {}
    for channel in job.get("InputDataConfig", []):
        tree.channel(channel["ChannelName"]).mkdir(exist_ok=True)
        source = channel["DataSource"].get("S3DataSource", {})
        channels[channel["ChannelName"]] = {
            "TrainingInputMode": "File",
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
        }
    files.write_json(config / "inputdataconfig.json", channels)
    instance = job.get("ResourceConfig", {}).get("InstanceType", "ml.m5.xlarge")
    group = "homogeneousCluster"
    files.write_json(
        config / "resourceconfig.json",
        {
            "current_host": tree.host,
            "current_instance_type": instance,
            "current_group_name": group,
            "hosts": list(hosts),
            "instance_groups": [{"instance_group_name": group, "instance_type": instance, "hosts": list(hosts)}],
            "network_interface_name": INTERFACE,
        },
    )
    if "CheckpointConfig" in job:
        files.write_json(config / "checkpointconfig.json", job["CheckpointConfig"])


def training_environ(tree: Tree, job: Mapping[str, Any], hosts: Sequence[str]) -> dict[str, str]:
    """The variables of a training host: those of the service, those of its script mode, those of the job."""
    parameters = dict(job.get("HyperParameters", {}))
    channels = [one["ChannelName"] for one in job.get("InputDataConfig", [])]
    return {
        "BINTALLY_OPT_ML": str(tree.root),
        "TRAINING_JOB_NAME": job["TrainingJobName"],
        "TRAINING_JOB_ARN": job["TrainingJobArn"],
        "SM_MODEL_DIR": str(tree.model),
        "SM_INPUT_DIR": str(tree.root / "input"),
        "SM_INPUT_CONFIG_DIR": str(tree.root / "input" / "config"),
        "SM_OUTPUT_DIR": str(tree.root / "output"),
        "SM_OUTPUT_DATA_DIR": str(tree.output),
        "SM_OUTPUT_FAILURE": str(tree.failure),
        "SM_CHANNELS": json.dumps(channels),
        **{f"SM_CHANNEL_{name.upper()}": str(tree.channel(name)) for name in channels},
        "SM_HPS": json.dumps(parameters),
        **{f"SM_HP_{name.upper().replace('-', '_')}": value for name, value in parameters.items()},
        "SM_HOSTS": json.dumps(list(hosts)),
        "SM_CURRENT_HOST": tree.host,
        "SM_NUM_GPUS": "0",
        "SM_NETWORK_INTERFACE_NAME": INTERFACE,
        "SM_RESOURCE_CONFIG": json.dumps({"current_host": tree.host, "hosts": list(hosts)}),
        **job.get("Environment", {}),
    }
