"""Training figures for other people's boards: TensorBoard and MLflow, each by a flag, neither needed."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bintally import files
from bintally.errors import BintallyError, MissingExtraError, RunError, SettingsError
from bintally.learn.listen import Listener, Start

STEP_EVERY = 10
"""The loss is told once in so many steps."""

MLFLOW_FILE = "mlflow.json"
TENSORBOARD_FOLDER = "tensorboard"


def make_logs(names: Iterable[str]) -> list[Listener]:
    """The logs of these names: "tensorboard", "mlflow".

    Raises:
        SettingsError: there is no such log.
        MissingExtraError: its library is not installed.
    """
    kinds: dict[str, Callable[[], Listener]] = {"tensorboard": TensorBoardLog, "mlflow": MlflowLog}
    logs = []
    for name in dict.fromkeys(names):
        if name not in kinds:
            raise SettingsError(f"unknown log {name!r}: take {' or '.join(kinds)}")
        logs.append(kinds[name]())
    return logs


class TensorBoardLog(Listener):
    """Event files in RUN/tensorboard: `tensorboard --logdir RUN`."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "track") from error
        self._make: Callable[..., Any] = SummaryWriter
        self._writer: Any = None

    def on_start(self, start: Start) -> None:
        """Opens a file; what an earlier process told of later steps is hidden by TensorBoard itself.

        Raises:
            RunError: there is no run folder.
        """
        if start.run is None:
            raise RunError("TensorBoard's log needs a run folder")
        self._writer = self._make(str(start.run / TENSORBOARD_FOLDER), purge_step=start.done + 1)

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """Tells the loss now and then."""
        if step % STEP_EVERY == 0:
            self._writer.add_scalar("step/loss", loss, step)

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """Tells the epoch's figures."""
        for name, value in _figures(row).items():
            self._writer.add_scalar(name.replace("_", "/", 1), value, step)

    def on_end(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()


class MlflowLog(Listener):
    """A run in MLflow: where MLFLOW_TRACKING_URI says, else in mlflow.db beside the run folder.

    The experiment is MLFLOW_EXPERIMENT_NAME or "bintally". A training that goes on writes to the same MLflow run.
    """

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError("mlflow", "track") from error
        self._mlflow: Any = mlflow
        self._client: Any = None
        self._id = ""

    def on_start(self, start: Start) -> None:
        """Opens a run, or the one that an earlier process opened.

        Raises:
            RunError: MLflow cannot be reached, or has no such place.
        """
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if start.run is None:
            raise RunError("MLflow's log needs a run folder")
        place = start.run.resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place.parent / 'mlflow.db'}"
        known = place / MLFLOW_FILE
        try:
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            self._id = self._reopened(known, uri)
            if not self._id:
                name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "bintally"
                found = self._client.get_experiment_by_name(name)
                experiment = found.experiment_id if found else self._client.create_experiment(name)
                self._id = self._client.create_run(experiment, run_name=place.name).info.run_id
                for table, values in start.settings.items():
                    for key, value in values.items():
                        self._client.log_param(self._id, f"{table}.{key}", value)
                files.write_json(known, {"uri": uri, "run_id": self._id})
        except BintallyError:
            raise
        except Exception as error:
            # MLflow raises its stores' errors of many kinds; the training should say so before it begins.
            raise RunError(f"MLflow at {uri}: {str(error).strip().splitlines()[0][:200]}") from error

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """Tells the loss now and then."""
        if step % STEP_EVERY == 0:
            self._client.log_metric(self._id, "step_loss", loss, step=step)

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """Tells the epoch's figures."""
        for name, value in _figures(row).items():
            self._client.log_metric(self._id, name, value, step=step)

    def on_end(self) -> None:
        """Ends the run; one that goes on opens it again."""
        if self._id:
            self._client.set_terminated(self._id)

    def _reopened(self, known: Path, uri: str) -> str:
        try:
            before = json.loads(known.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        if before.get("uri") != uri:
            return ""
        self._client.update_run(before["run_id"], status="RUNNING")
        return str(before["run_id"])


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name not in {"epoch", "step"}}
