"""One training job while it runs: room, channels, the program on each host, its end, its archives."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from bintally.cloud.local import logs
from bintally.cloud.local.bucket import Mirror, TransferError
from bintally.cloud.local.channels import copy_channels
from bintally.cloud.local.children import Child, container_environ
from bintally.cloud.local.names import TRAINING
from bintally.cloud.local.objects import free_port
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import now
from bintally.cloud.local.tree import CHECKPOINTS, Tree, training_environ, write_tree
from bintally.cloud.metrics import read_metrics
from bintally.cores import num_cores

Outcome = Literal["completed", "failed", "stopped", "runtime", "wait", "interrupted", "shutdown"]

_POLL_S = 0.1
_SHUTDOWN_S = 20.0
_PEERS_S = 10.0
"""How long the hosts whose program goes on are waited for when another host's has failed."""

_MESSAGES = {
    "Starting": "Starting the training job",
    "Pending": "Waiting for room on this machine",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "The spot instance was interrupted; the training goes on from its checkpoints",
    "Stopping": "Stopping the training job",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}


class TrainingRun:
    """Carries one job out, in a thread of its own.

    Attributes:
        history: metric → its values so far, in the order of the log.
        final: metric → its last value and when it came.
    """

    def __init__(self, shared: Shared, name: str) -> None:
        self._shared, self._name = shared, name
        self._job: dict[str, Any] = shared.state.get(TRAINING.state, name) or {}
        self._folder = shared.trees / TRAINING.state / name
        self._definitions = {
            one["Name"]: one["Regex"] for one in self._job["AlgorithmSpecification"].get("MetricDefinitions", [])
        }
        self._why: Outcome | None = None
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._trained_s = 0.0
        self._interrupted = False
        self._failed: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.final: dict[str, tuple[float, float]] = {}
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self, why: Literal["stopped", "shutdown"]) -> None:
        """Asks the job to end; what it has written until then is kept."""
        self._why = self._why or why
        self._hurry.set()

    def join(self, timeout_s: float) -> None:
        """Waits for its end."""
        self._thread.join(timeout_s)

    def final_metrics(self) -> list[dict[str, Any]]:
        """The last value of each metric, as Describe answers them."""
        with self._lock:
            return [
                {"MetricName": name, "Value": value, "Timestamp": when} for name, (value, when) in self.final.items()
            ]

    # ------------------------------------------------------------------ the way of a job

    def _work(self) -> None:
        try:
            outcome, reason = self._carry_out()
            self._end(outcome, reason)
        except TransferError as error:
            self._end("failed", str(error))
        except Exception as error:  # noqa: BLE001 - the last resort of one job: it fails and says why, the service goes on
            self._end("failed", f"InternalServerError: {type(error).__name__}: {error}")
        finally:
            if not self._shared.settings.keep_trees:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _carry_out(self) -> tuple[Outcome, str]:
        if code := self._shared.faults.take("TrainingJob"):
            return (
                "failed",
                f"{code}: Unable to provision requested ML compute capacity. Please retry using a "
                "different ML instance type.",
            )
        began = time.monotonic()
        if not self._shared.room.acquire(blocking=False):
            self._note("Pending")
            if not self._shared.wait_for_room(lambda: self._over(began) is not None):
                return self._over(began) or "stopped", ""
        try:
            return self._with_room(began)
        finally:
            self._shared.room.release()

    def _over(self, began: float) -> Outcome | None:
        """Why the job should end now, whatever its program does."""
        condition = self._job.get("StoppingCondition", {})
        if self._why:
            return self._why
        if self._trained_s > condition.get("MaxRuntimeInSeconds", 86400):
            return "runtime"
        if time.monotonic() - began > condition.get("MaxWaitTimeInSeconds", float("inf")):
            return "wait"
        return None

    def _with_room(self, began: float) -> tuple[Outcome, str]:
        num = self._job.get("ResourceConfig", {}).get("InstanceCount", 1)
        hosts = [f"algo-{place}" for place in range(1, num + 1)]
        shutil.rmtree(self._folder, ignore_errors=True)  # of a service that was killed
        trees = [Tree(root=self._folder / host, host=host) for host in hosts]
        for tree in trees:
            write_tree(tree, self._job, hosts)
        self._note("Downloading", TrainingStartTime=now())
        copy_channels(self._shared.bucket, self._job, trees, lambda: self._over(began) is not None)
        mirrors = self._mirrors(trees)
        for mirror in mirrors:
            mirror.restore()
        while (over := self._over(began)) is None:
            outcome, reason = self._train(trees, mirrors, began)
            self._send(mirrors)
            if outcome != "interrupted":
                self._upload(outcome, trees)
                return outcome, reason
            self._note("Interrupted")
            self._note("Starting")
        return over, ""

    def _train(self, trees: Sequence[Tree], mirrors: Sequence[Mirror], began: float) -> tuple[Outcome, str]:
        hosts = [tree.host for tree in trees]
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} if len(trees) > 1 else {}
        if "OMP_NUM_THREADS" not in os.environ and (share := len(trees) * self._job.get("_share", 1)) > 1:
            # Each program would take every core, and they would wait for each other: several times slower in all.
            meeting |= {"OMP_NUM_THREADS": str(max(1, num_cores() // share))}
        children: list[Child] = []
        at, before = time.monotonic(), self._trained_s
        try:
            for tree in trees:
                environ = self._shared.cloud_environ() | meeting | training_environ(tree, self._job, hosts)
                stream = f"{self._name}/{tree.host}-{int(self._job['CreationTime'])}"
                children.append(
                    self._shared.children.start(
                        self._shared.programs.train,
                        environ=container_environ(environ),
                        folder=tree.root,
                        on_line=self._reader(stream),
                    )
                )
            self._note("Training")
            outcome = self._watch(children, mirrors, began, at)
            if outcome != "completed":
                if outcome not in {"failed", "interrupted"}:
                    self._note("Stopping", TrainingJobStatus="Stopping")
                # A failed job's other hosts see their peer gone, and mostly end by themselves.
                grace = {"failed": _PEERS_S, "shutdown": min(_SHUTDOWN_S, self._shared.settings.training_stop_s)}
                codes = _finish(children, grace.get(outcome, self._shared.settings.training_stop_s))
            else:
                codes = [child.collect() for child in children]
        finally:
            for child in children:
                child.collect()
        self._trained_s = before + time.monotonic() - at
        if outcome != "failed":
            return outcome, ""
        # Of the hosts that failed before the others were ended, one that says why speaks for the job.
        place = next((place for place in self._failed if trees[place].reason()), self._failed[0])
        reason = trees[place].reason() or "the program left no reason; its log says more"
        return outcome, f"AlgorithmError: {reason}, exit code: {_shown(codes[place])}"

    def _watch(self, children: Sequence[Child], mirrors: Sequence[Mirror], began: float, at: float) -> Outcome:
        before, sent = self._trained_s, time.monotonic()
        settings = self._shared.settings
        spot = self._job.get("EnableManagedSpotTraining", False) and settings.interrupt_s and not self._interrupted
        while True:
            codes = [child.poll() for child in children]
            if any(codes):
                self._failed = [place for place, code in enumerate(codes) if code]
                return "failed"
            if all(code == 0 for code in codes):
                return "completed"
            self._trained_s = before + time.monotonic() - at
            if (over := self._over(began)) is not None:
                return over
            if spot and time.monotonic() - at > settings.interrupt_s:
                self._interrupted = True
                return "interrupted"
            if time.monotonic() - sent > settings.sync_s:
                self._send(mirrors, settled_s=min(1.0, settings.sync_s))
                sent = time.monotonic()
            self._hurry.wait(_POLL_S)

    def _end(self, outcome: Outcome, reason: str) -> None:
        status, secondary = {
            "completed": ("Completed", "Completed"),
            "failed": ("Failed", "Failed"),
            "shutdown": ("Failed", "Failed"),
            "runtime": ("Stopped", "MaxRuntimeExceeded"),
            "wait": ("Stopped", "MaxWaitTimeExceeded"),
        }.get(outcome, ("Stopped", "Stopped"))
        if outcome == "shutdown":
            reason = interrupted_reason(self._job)
        fields: dict[str, Any] = {"TrainingJobStatus": status, "TrainingEndTime": now()}
        if self.final:
            fields["FinalMetricDataList"] = self.final_metrics()
            fields["_history"] = self.history
        if reason:
            fields["FailureReason"] = reason[:1024]
        if self._trained_s:
            seconds = max(1, round(self._trained_s))
            fields |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
        self._note(secondary, **fields)

    # ------------------------------------------------------------------ its parts

    def _reader(self, stream: str) -> Callable[[str], None]:
        write = self._shared.logs.writer(logs.TRAINING, stream)

        def read(line: str) -> None:
            write(line)
            found = read_metrics(line, self._definitions)
            with self._lock:
                for name, value in found.items():
                    self.history.setdefault(name, []).append(value)
                    self.final[name] = (value, now())

        return read

    def _mirrors(self, trees: Sequence[Tree]) -> list[Mirror]:
        config = self._job.get("CheckpointConfig")
        if not config:
            return []
        mirrors = []
        for tree in trees:
            folder = tree.inside(config.get("LocalPath", CHECKPOINTS))
            folder.mkdir(parents=True, exist_ok=True)
            mirrors.append(Mirror(self._shared.bucket, folder, config["S3Uri"]))
        return mirrors

    def _send(self, mirrors: Sequence[Mirror], *, settled_s: float = 0.0) -> None:
        for mirror in mirrors:
            mirror.send(settled_s=settled_s)

    def _upload(self, outcome: Outcome, trees: Sequence[Tree]) -> None:
        if outcome not in {"failed", "shutdown"}:
            self._note("Uploading")
        config = self._job["OutputDataConfig"]
        base = f"{config['S3OutputPath'].rstrip('/')}/{self._name}/output"
        packed = config.get("CompressionType", "GZIP") == "GZIP"
        wanted: list[tuple[str, list[Path]]] = [("output", [tree.output for tree in trees])]
        if outcome not in {"failed", "shutdown"}:
            wanted.append(("model", [tree.model for tree in trees]))
        for what, folders in wanted:
            if what == "output" and not any(any(folder.iterdir()) for folder in folders if folder.is_dir()):
                continue
            if packed:
                self._shared.bucket.upload_archive(folders, f"{base}/{what}.tar.gz", self._folder)
            else:
                for folder in reversed(folders):
                    self._shared.bucket.upload_folder(folder, f"{base}/{what}/")
            if what == "model":
                uri = f"{base}/model.tar.gz" if packed else f"{base}/model/"
                self._shared.state.change(TRAINING.state, self._name, ModelArtifacts={"S3ModelArtifacts": uri})

    def _note(self, secondary: str, **fields: Any) -> None:
        self._shared.state.change(
            TRAINING.state,
            self._name,
            **transition(self._shared.state.get(TRAINING.state, self._name) or {}, secondary),
            **fields,
        )


def transition(job: dict[str, Any], secondary: str) -> dict[str, Any]:
    """The members of a job that change when it comes to another secondary status."""
    steps = [dict(one) for one in job.get("SecondaryStatusTransitions", [])]
    when = now()
    if steps:
        steps[-1].setdefault("EndTime", when)
    step = {"Status": secondary, "StartTime": when, "StatusMessage": _MESSAGES[secondary]}
    if secondary in {"Completed", "Failed", "Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"}:
        step["EndTime"] = when
    return {"SecondaryStatus": secondary, "SecondaryStatusTransitions": [*steps, step]}


def interrupted_reason(job: dict[str, Any]) -> str:
    """Why a job has failed that ran when the service ended, and what can be done about it."""
    reason = "InternalServerError: the service on this machine ended while the job ran"
    if "CheckpointConfig" in job:
        uri = job["CheckpointConfig"]["S3Uri"]
        return f"{reason}; a new job with the same CheckpointConfig goes on from what {uri} holds"
    return f"{reason}; it had no CheckpointConfig to go on from"


def _finish(children: Sequence[Child], grace_s: float) -> list[int]:
    """Ends the programs of all hosts together. Returns their exit codes."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    until = time.monotonic() + grace_s
    while time.monotonic() < until and any(child.poll() is None for child in children):
        time.sleep(_POLL_S)
    return [child.collect() for child in children]


def _shown(code: int) -> int:
    """An exit code as a container's platform shows it: one ended by a signal has 128 and the signal's number."""
    return 128 - code if code < 0 else code
