"""The training container's contract, carried out: the program in a tree laid out as /opt/ml, as the service starts it."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bintally.card import read_card
from bintally.cloud.metrics import read_metrics
from bintally.data.manifest import write_manifest
from bintally.data.push import push
from bintally.data.source import open_folder
from bintally.data.store import open_store
from tests.cloud.opt_ml import QUICK, ROOT, class_folders, environment, finished, job, lay_out, stopped_when
from tests.contract.only_extras import only, train_extras
from tests.contract.stand_ins import free_port

WEIGHTS = "checkpoints/run/model.safetensors"
ALL_PARTS = ("train", "validation", "calibration", "test")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lines_of(log: str) -> list[dict[str, float]]:
    return [found for found in map(read_metrics, log.splitlines()) if found]


@pytest.mark.slow
def test_a_complete_job(tmp_path: Path) -> None:
    """A pushed split in the channel `data`; watched and profiled, with what the image holds and no more."""
    split = open_folder(class_folders(tmp_path / "bins", parts=ALL_PARTS))
    write_manifest(tmp_path / "bins/split.parquet", split)
    root = tmp_path / "ml"
    push(split, open_store(str(root / "input/data/data"), create=True))
    wishes = {"watch": "true", "profile": "true", "profile.tries": "0", "profile.steps": "5", "profile.warmup": "1"}
    lay_out(root, QUICK | wishes)
    code, log = finished(root, **only(tmp_path / "environment", *train_extras()))
    assert code == 0, log
    assert not (root / "output/failure").exists()

    told = lines_of(log)
    epochs = [line for line in told if "validation:nll" in line]
    assert [line["train:epoch"] for line in epochs] == [1, 2]
    assert all({"train:loss", "validation:accuracy", "validation:rmse"} <= line.keys() for line in epochs)
    (tested,) = [line for line in told if "test:accuracy" in line]
    assert 0 <= tested["test:accuracy"] <= 1

    card = read_card(root / "model")  # holds every file against its hash
    assert (card.kind, str(card.counts)) == ("exported", "0-3")
    assert card.calibration is not None
    assert card.metrics["test"]["accuracy"] == pytest.approx(tested["test:accuracy"], abs=1e-4)
    from bintally.serve.engine import Engine

    photo = next((root / "input/data/data/test/2").iterdir()).read_bytes()
    (answer,) = Engine.load(root / "model").count([photo])
    assert sum(answer.probabilities) == pytest.approx(1)  # type: ignore[union-attr]

    out = root / "output/data"
    for name in (
        "history.csv",
        "curves.png",
        "evaluation/evaluation.html",
        "watch/watch.html",
        "profile/profile.html",
    ):
        assert (out / name).is_file(), name
    assert not list(out.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_job_whose_training_is_refit_delivers_a_model_without_a_calibration_part(tmp_path: Path) -> None:
    root = tmp_path / "ml"
    lay_out(root, QUICK | {"train.refit": "true", "evaluate.part": "validation"})
    for part in ("train", "validation", "test"):
        class_folders(root / "input/data", parts=(part,))
    code, log = finished(root)
    assert code == 0, log
    assert "there is no validation part: the counter is not scored on it" in log  # it has learnt from it
    assert [line["train:epoch"] for line in lines_of(log) if "validation:nll" in line] == [1, 2]
    card = read_card(root / "model")
    assert card.is_refit
    assert card.metrics["export"]["part"] == "train"


@pytest.mark.slow
def test_a_job_that_fails_says_why(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", {**QUICK, "epoch": "3"})
    code, log = finished(root)
    assert code == 1
    first = (root / "output/failure").read_text()
    assert first == "the hyperparameter 'epoch' is not known; did you mean 'epochs'?\n"
    assert f"error: {first}" in log
    assert "Traceback" not in log
    # The same job started again with what it should have been asked: nothing of the failure stays.
    lay_out(root, QUICK | {"train.epochs": "1"})
    class_folders(root / "input/data", parts=("train", "validation"))
    code, log = finished(root)
    assert code == 0, log
    assert not (root / "output/failure").exists()
    assert "no calibration part" in log
    assert "there is no test part" in log
    assert read_card(root / "model").calibration is None


@pytest.mark.slow
def test_a_script_in_the_services_own_image_whose_training_breaks(tmp_path: Path) -> None:
    """As the toolkit starts it: hyperparameters as words that the script does not read, and SM_* variables."""
    root, out = tmp_path / "ml", tmp_path / "out"
    class_folders(root / "input/data", parts=("train", "validation"))
    script = tmp_path / "train.py"
    script.write_text('import sys\nfrom bintally.cli import main\nsys.argv[1:] = ["train"]\nmain()\n')
    asked = {**QUICK, "train.head_lr": 1e30, "train.backbone_lr": 1e30, "train.optimizer": "sgd", "train.epochs": 2}
    said = {
        "SM_HPS": json.dumps(asked),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DIR": str(out),
        "SM_OUTPUT_DATA_DIR": str(out / "data"),
        "SM_CHANNEL_TRAIN": str(root / "input/data/train"),
        "SM_CHANNEL_VALIDATION": str(root / "input/data/validation"),
        "SM_HOSTS": '["algo-1"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_NUM_GPUS": "0",
    }
    done = subprocess.run(
        [sys.executable, str(script), "--train.epochs", "2"],
        env=environment(root, **said) | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = (out / "failure").read_text()
    assert "train.head_lr" in told[:1024]  # what to do about it
    assert json.loads((out / "data/run.json").read_text())["status"] == "failed"
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_a_job_stopped_by_sigterm_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    asked = QUICK | {"train.epochs": "6"}
    data = class_folders(tmp_path / "data", num=200, parts=("train", "validation"))
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    for root in (whole, first, second):
        lay_out(root, asked)
        shutil.copytree(data, root / "input/data", dirs_exist_ok=True)
    code, log = finished(whole)
    assert code == 0, log

    code, log, seconds = stopped_when(first, "train:epoch=1.0;")
    assert code == 143, log
    assert seconds < 120
    assert not (first / "output/failure").exists()
    assert not list((first / "model").iterdir())
    assert (first / "output/data/history.csv").is_file()
    assert "the same command goes on" in log or "goes on from here" in log
    # The service brings the checkpoints to another machine.
    shutil.copytree(first / "checkpoints", second / "checkpoints")
    code, log = finished(second)
    assert code == 0, log
    assert "goes on from epoch" in log
    assert "train:epoch=1.0;" not in log
    assert sha256(second / WEIGHTS) == sha256(whole / WEIGHTS)
    assert sha256(second / "model/model.onnx") == sha256(whole / "model/model.onnx")
    # And once more: it had come to its end, the model is delivered again.
    shutil.rmtree(second / "model")
    code, log = finished(second)
    assert code == 0, log
    assert "had trained to its end before" in log
    assert sha256(second / "model/model.onnx") == sha256(whole / "model/model.onnx")


@pytest.mark.slow
def test_two_hosts_share_each_batch_and_one_that_is_stopped_stops_both(tmp_path: Path) -> None:
    asked = QUICK | {"train.epochs": "6"}
    data = class_folders(tmp_path / "data", num=120, parts=("train", "validation"))
    alone = lay_out(tmp_path / "alone", asked | {"train.processes": "2"})
    shutil.copytree(data, alone / "input/data", dirs_exist_ok=True)
    code, log = finished(alone)
    assert code == 0, log

    hosts = ("algo-1", "algo-2")
    roots = [lay_out(tmp_path / host, asked, hosts=hosts, host=host) for host in hosts]
    for root in roots:
        shutil.copytree(data, root / "input/data", dirs_exist_ok=True)
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with job(roots[0], **where) as one, job(roots[1], **where) as other:
        _wait_for(roots[0], "train:epoch=1.0;", one)
        other.terminate()  # the second host alone is told
        assert (one.wait(timeout=120), other.wait(timeout=120)) == (143, 143), (roots[0] / "log").read_text()
    assert (roots[0] / "checkpoints/run/checkpoints/last.safetensors").is_file()

    # The second host comes back as a new machine that knows nothing.
    shutil.rmtree(roots[1] / "checkpoints", ignore_errors=True)
    where["MASTER_PORT"] = str(free_port())
    with job(roots[0], **where) as one, job(roots[1], **where) as other:
        codes = (one.wait(timeout=900), other.wait(timeout=900))
    logs = [(root / "log").read_text() for root in roots]
    assert codes == (0, 0), "\n".join(logs)
    assert "goes on from epoch" in logs[0]
    assert lines_of(logs[0])
    assert not lines_of(logs[1])  # only the first one speaks,
    assert read_card(roots[0] / "model").kind == "exported"
    assert not list((roots[1] / "model").iterdir())  # and writes
    assert not (roots[1] / WEIGHTS).exists()
    assert _history(roots[0]) == _history(alone)


def _wait_for(root: Path, line: str, program: "subprocess.Popen[str]") -> None:
    import time

    until = time.monotonic() + 900
    while line not in (root / "log").read_text():
        assert program.poll() is None, (root / "log").read_text()
        assert time.monotonic() < until
        time.sleep(0.05)


def _history(root: Path) -> list[list[str]]:
    """The epochs' figures, without the seconds."""
    lines = (root / "output/data/history.csv").read_text().splitlines()
    return [line.split(",")[:-1] for line in lines]
