"""TensorBoard and MLflow: each hears every epoch; a training that goes on writes to the same run; none is needed."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bintally.data.manifest import Manifest
from bintally.errors import MissingExtraError, RunError, SettingsError
from bintally.learn.listen import Listener
from bintally.learn.recipe import Recipe
from bintally.learn.track import MlflowLog, TensorBoardLog, make_logs
from bintally.learn.train import train


class Ends(Listener):
    def on_step(self, step: int, epoch: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt


def test_names() -> None:
    assert make_logs([]) == []
    with pytest.raises(SettingsError, match="unknown log 'wandb': take tensorboard or mlflow"):
        make_logs(["wandb"])


@pytest.mark.parametrize(("name", "library"), [("mlflow", "mlflow"), ("tensorboard", "torch.utils.tensorboard")])
def test_a_library_that_is_not_there_names_the_extra(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(what: str, *rest: Any, **more: Any) -> Any:
        if what == library:
            raise ImportError(what)
        return real(what, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=rf"{name} is not installed: pip install 'bintally\[track\]'"):
        make_logs([name])


@pytest.mark.slow
def test_tensorboard_has_every_epoch(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(make_manifest(num=30), tmp_path / "run", tiny(epochs=2), listeners=[TensorBoardLog()])
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert [one.step for one in found.Scalars("validation/nll")] == [2, 4]
    assert {"train/loss", "validation/accuracy", "head/lr"} <= set(found.Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own and SQLAlchemy's
def test_mlflow_goes_on_with_the_same_run(
    make_manifest: Callable[..., Manifest],
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    manifest, recipe = make_manifest(num=30), tiny(epochs=3)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "run", recipe, listeners=[MlflowLog(), Ends()])
    train(manifest, tmp_path / "run", recipe, listeners=[MlflowLog()])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("bintally")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "3"
    assert {one.step for one in client.get_metric_history(run.info.run_id, "validation_nll")} == {2, 4, 6}


@pytest.mark.filterwarnings("ignore")
def test_an_mlflow_that_cannot_be_reached_says_so_before_training(
    make_manifest: Callable[..., Manifest],
    tiny: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://x")
    with pytest.raises(RunError, match="MLflow at nonsense"):
        train(make_manifest(num=10), tmp_path / "run", tiny(epochs=1), listeners=[MlflowLog()])
