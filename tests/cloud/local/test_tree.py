import json
from pathlib import Path
from typing import Any

import pytest

from bintally.cloud.container import find_data, read_container, rendezvous
from bintally.cloud.local.tree import Tree, training_environ, write_tree
from tests.cloud.local.running import channel, training

HOSTS = ["algo-1", "algo-2"]


def job(**more: Any) -> dict[str, Any]:
    return {
        **training("job", hosts=2),
        "TrainingJobArn": "arn",
        "HyperParameters": {"train.epochs": "5", "stop-on": "Overfit", "_tuning_objective_metric": "x"},
        "InputDataConfig": [channel("data", "s3://b/x"), channel("backbone", "s3://b/y") | {"ContentType": "a/b"}],
        **more,
    }


def test_the_training_program_understands_it(tmp_path: Path) -> None:
    tree = Tree(root=tmp_path / "ml", host="algo-2")
    write_tree(tree, job(), HOSTS)
    (tree.channel("data") / "train" / "3").mkdir(parents=True)
    environ = training_environ(tree, job(), HOSTS) | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4"}
    for surroundings in (environ, {"BINTALLY_OPT_ML": str(tree.root)}):
        container = read_container(surroundings)
        assert container.hyperparameters == {"train.epochs": "5", "stop-on": "Overfit"}
        assert (container.host, container.hosts, container.rank) == ("algo-2", ("algo-1", "algo-2"), 1)
        assert container.channels == {"data": tree.channel("data"), "backbone": tree.channel("backbone")}
        assert (container.model, container.output_data, container.failure) == (tree.model, tree.output, tree.failure)
        assert find_data(container) == tree.channel("data")
    meeting = rendezvous(read_container(environ), environ)
    assert (meeting["MASTER_ADDR"], meeting["MASTER_PORT"], meeting["NODE_RANK"]) == ("127.0.0.1", "4", "1")
    assert meeting["GLOO_SOCKET_IFNAME"] == "lo"


def test_the_files(tmp_path: Path) -> None:
    tree = Tree(root=tmp_path, host="algo-1")
    write_tree(tree, job(CheckpointConfig={"S3Uri": "s3://b/c"}), HOSTS)
    config = tmp_path / "input" / "config"
    channels = json.loads((config / "inputdataconfig.json").read_text())
    assert channels["backbone"] == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
        "ContentType": "a/b",
    }
    resources = json.loads((config / "resourceconfig.json").read_text())
    assert resources["instance_groups"][0]["hosts"] == HOSTS
    assert resources["current_instance_type"] == "ml.m5.large"
    assert json.loads((config / "checkpointconfig.json").read_text()) == {"S3Uri": "s3://b/c"}


def test_the_jobs_own_variables_win(tmp_path: Path) -> None:
    tree = Tree(root=tmp_path, host="algo-1")
    environ = training_environ(tree, job(Environment={"SM_NUM_GPUS": "2"}), HOSTS)
    assert environ["SM_NUM_GPUS"] == "2"
    assert environ["SM_HP_TRAIN.EPOCHS"] == "5"


def test_reasons_and_paths(tmp_path: Path) -> None:
    tree = Tree(root=tmp_path, host="algo-1")
    assert tree.reason() == ""
    tree.failure.parent.mkdir(parents=True)
    tree.failure.write_bytes(b" \xffno memory " + b"x" * 5000)
    assert tree.reason().startswith("�no memory")
    assert len(tree.reason()) == 1024
    assert tree.inside("/opt/ml/checkpoints/a") == tmp_path / "checkpoints" / "a"
    with pytest.raises(ValueError, match="subpath"):
        tree.inside("/tmp/x")
