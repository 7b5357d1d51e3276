"""Tuning jobs: what they are asked, what they answer, and the thread that starts a tuning job's trainings."""

import importlib.util
import math
import secrets
import threading
import time
from typing import Any

from bintally.cloud.local.names import TRAINING, TUNING, list_page
from bintally.cloud.local.ranges import Range, read_ranges
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import Record, now, shown
from bintally.cloud.local.strategies import Tried, behind_median, behind_rung, grid_size, propose
from bintally.cloud.local.training import RUNNING, Trainings, check_training
from bintally.cloud.local.tuning_rows import counters, objective_of, training_row
from bintally.cloud.local.wire import ServiceError, page, validation

_POLL_S = 0.2
_STRATEGIES = {"Bayesian", "Random", "Grid", "Hyperband"}


class Tunings:
    """Every tuning job."""

    def __init__(self, shared: Shared, trainings: Trainings) -> None:
        self._shared, self._trainings = shared, trainings
        self._threads: dict[str, threading.Thread] = {}
        self._closing = threading.Event()

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on tuning jobs."""
        return {
            ("sagemaker", "CreateHyperParameterTuningJob"): self._create,
            ("sagemaker", "DescribeHyperParameterTuningJob"): self._describe,
            ("sagemaker", "ListHyperParameterTuningJobs"): self._list,
            ("sagemaker", "ListTrainingJobsForHyperParameterTuningJob"): self._list_trainings,
            ("sagemaker", "StopHyperParameterTuningJob"): self._stop,
            ("sagemaker", "DeleteHyperParameterTuningJob"): self._delete,
        }

    def resume(self) -> None:
        """Goes on with the tuning jobs that ran when the last service ended; their trainings then have failed."""
        for job in self._shared.state.all(TUNING.state):
            if job[TUNING.status] in RUNNING:
                self._start(job[TUNING.name])

    def shut_down(self) -> None:
        """Lets every tuning job rest; the next service goes on with it."""
        self._closing.set()
        for thread in self._threads.values():
            thread.join(10)

    # ------------------------------------------------------------------ operations

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params[TUNING.name]
        config, definition = params["HyperParameterTuningJobConfig"], _definition(params)
        ranges = _check(config, definition)
        arn = self._shared.place.arn(TUNING, name)
        check_training(_training(definition, {}))
        static = definition.get("StaticHyperParameters", {})
        both = sorted({one.name for one in ranges} & static.keys())
        if both:
            raise validation(f"Hyperparameters {both} are both static and in ParameterRanges.")
        # As the service does: the program can see what it is tuned for.
        static = {**static, "_tuning_objective_metric": config["HyperParameterTuningJobObjective"]["MetricName"]}
        when = now()
        job: Record = {
            TUNING.name: name,
            TUNING.arn: arn,
            "HyperParameterTuningJobConfig": config,
            "TrainingJobDefinition": {**definition, "StaticHyperParameters": static},
            TUNING.status: "InProgress",
            "CreationTime": when,
            "LastModifiedTime": when,
            **({"WarmStartConfig": params["WarmStartConfig"]} if "WarmStartConfig" in params else {}),
            "_tags": params.get("Tags", []),
            "_trainings": [],
            "_seed": config.get("RandomSeed", secrets.randbelow(2**31)),
        }
        for one in params.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
            self._get(one[TUNING.name])

        def taken() -> ServiceError:
            return ServiceError(
                "ResourceInUse",
                "Hyperparameter tuning job names must be unique within an AWS account and region, and a job with this "
                f"name already exists ({arn})",
            )

        self._shared.state.add(TUNING.state, name, job, taken)
        self._start(name)
        return {TUNING.arn: arn}

    def _describe(self, params: dict[str, Any]) -> dict[str, Any]:
        return shown(self._filled(self._get(params[TUNING.name])))

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        records = [
            {
                **self._filled(one),
                "Strategy": one["HyperParameterTuningJobConfig"]["Strategy"],
                "ResourceLimits": one["HyperParameterTuningJobConfig"]["ResourceLimits"],
            }
            for one in self._shared.state.all(TUNING.state)
        ]
        return list_page(self._shared.state, TUNING, params, records)

    def _list_trainings(self, params: dict[str, Any]) -> dict[str, Any]:
        job = self._get(params[TUNING.name])
        rows = [training_row(job, one) for one in self._trainings_of(job)]
        if status := params.get("StatusEquals"):
            rows = [one for one in rows if one["TrainingJobStatus"] == status]
        by = params.get("SortBy", "Name")
        if by == "FinalObjectiveMetricValue":
            rows = [one for one in rows if "FinalHyperParameterTuningJobObjectiveMetric" in one]
            rows.sort(key=lambda one: one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"])
        else:
            member = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(by, by)
            rows.sort(key=lambda one: one[member])
        if params.get("SortOrder") == "Descending":
            rows.reverse()
        return page(rows, params, "TrainingJobSummaries", size="MaxResults", goes_on="NextToken", most=10)

    def _stop(self, params: dict[str, Any]) -> None:
        job = self._get(params[TUNING.name])
        if job[TUNING.status] not in RUNNING:
            raise validation(f"The request was rejected because the tuning job is in status {job[TUNING.status]}.")
        self._shared.state.change(TUNING.state, params[TUNING.name], **{TUNING.status: "Stopping"})

    def _delete(self, params: dict[str, Any]) -> None:
        job = self._shared.state.get(TUNING.state, params[TUNING.name])
        if job is not None and job[TUNING.status] in RUNNING:
            raise ServiceError("ResourceInUse", f"The tuning job is in status {job[TUNING.status]}.")
        self._shared.state.remove(TUNING.state, params[TUNING.name])

    def _get(self, name: str) -> Record:
        job = self._shared.state.get(TUNING.state, name)
        if job is None:
            region = self._shared.place.region
            raise ServiceError(
                "ResourceNotFound", f"Amazon SageMaker can't find a tuning job with the name {name} in {region}."
            )
        return job

    def _trainings_of(self, job: Record) -> list[Record]:
        found = []
        for name in job["_trainings"]:
            try:
                found.append(self._trainings.get(name))
            except ServiceError:  # deleted by hand, or the service died between noting and making it
                continue
        return found

    def _filled(self, job: Record) -> Record:
        trainings = self._trainings_of(job)
        return {**job, **counters(job, trainings)}

    # ------------------------------------------------------------------ the way of a tuning job

    def _start(self, name: str) -> None:
        thread = threading.Thread(target=self._work, args=(name,), name=name, daemon=True)
        self._threads[name] = thread
        thread.start()

    def _work(self, name: str) -> None:
        try:
            self._carry_out(name)
        except Exception as error:  # noqa: BLE001 - the last resort of one job: it fails and says why, the service goes on
            known = isinstance(error, ServiceError)
            reason = f"ClientError: {error}" if known else f"InternalServerError: {type(error).__name__}: {error}"
            self._end_trainings(self._get(name))
            self._end(name, "Failed", FailureReason=reason[:1024])

    def _carry_out(self, name: str) -> None:
        job = self._get(name)
        config = job["HyperParameterTuningJobConfig"]
        limits = config["ResourceLimits"]
        ranges = read_ranges(config["ParameterRanges"])
        most = limits.get("MaxNumberOfTrainingJobs") or grid_size(ranges)
        parents = self._parents(job)
        exhausted = False
        while not self._closing.is_set():
            job = self._get(name)
            trainings = self._trainings_of(job)
            running = [one for one in trainings if one["TrainingJobStatus"] in RUNNING]
            if job[TUNING.status] == "Stopping":
                self._end_trainings(job)
                self._end(name, "Stopped")
                return
            if self._is_enough(job, trainings):
                self._end_trainings(job)
                self._end(name, "Completed")
                return
            tried = [_tried(job, one) for one in trainings]
            for own, one in enumerate(trainings):
                if one["TrainingJobStatus"] == "InProgress" and _falls_behind(config, tried, own):
                    self._trainings.stop(one[TRAINING.name])
            place = len(job["_trainings"])
            exhausted = exhausted or place >= most
            if exhausted and not running:
                done = any(objective_of(job, one) is not None for one in trainings)
                reason = None if done else _ALL_FAILED
                self._end(name, "Completed" if done else "Failed", FailureReason=reason)
                return
            if not exhausted and len(running) < limits["MaxParallelTrainingJobs"]:
                values = propose(
                    config["Strategy"],
                    ranges,
                    [*parents, *tried],
                    place=place,
                    seed=job["_seed"],
                    maximize=_maximize(config),
                    jobs=most,
                )
                if values is None:
                    exhausted = True
                else:
                    self._launch(job, place, values)
                continue
            self._closing.wait(_POLL_S)

    def _launch(self, job: Record, place: int, values: dict[str, str]) -> None:
        name = f"{job[TUNING.name]}-{place + 1:03d}-{secrets.token_hex(4)}"
        limits = job["HyperParameterTuningJobConfig"]["ResourceLimits"]
        # Noted first: a training that the service did not live to note would be nobody's.
        self._shared.state.change(TUNING.state, job[TUNING.name], _trainings=[*job["_trainings"], name])
        try:
            self._trainings.create(
                {**_training(job["TrainingJobDefinition"], values), "TrainingJobName": name, "Tags": job["_tags"]},
                TuningJobArn=job[TUNING.arn],
                _tuned=values,
                _share=min(limits["MaxParallelTrainingJobs"], self._shared.settings.parallel_jobs),
            )
        except ServiceError as error:
            if error.code != "ResourceLimitExceeded":
                raise
            # No machine free under the quota: the next turn tries again.
            self._shared.state.change(TUNING.state, job[TUNING.name], _trainings=job["_trainings"])
            if not any(one["TrainingJobStatus"] in RUNNING for one in self._trainings_of(job)):
                raise
            time.sleep(_POLL_S)

    def _parents(self, job: Record) -> list[Tried]:
        found = []
        for one in job.get("WarmStartConfig", {}).get("ParentHyperParameterTuningJobs", []):
            parent = self._shared.state.get(TUNING.state, one[TUNING.name])
            if parent is not None:
                found += [_tried(parent, training) for training in self._trainings_of(parent)]
        return found

    def _is_enough(self, job: Record, trainings: list[Record]) -> bool:
        config = job["HyperParameterTuningJobConfig"]
        longest = config["ResourceLimits"].get("MaxRuntimeInSeconds")
        if longest is not None and now() - job["CreationTime"] > longest:
            return True
        sign = 1 if _maximize(config) else -1
        ended = [one for one in trainings if one["TrainingJobStatus"] not in RUNNING]
        values = [value * sign for one in ended if (value := objective_of(job, one)) is not None]
        criteria = config.get("TuningJobCompletionCriteria", {})
        target = criteria.get("TargetObjectiveMetricValue")
        if target is not None and values and max(values) >= target * sign:
            return True
        idle = criteria.get("BestObjectiveNotImproving", {}).get("MaxNumberOfTrainingJobsNotImproving")
        return bool(idle and len(values) > idle and max(values[:-idle]) >= max(values[-idle:]))

    def _end_trainings(self, job: Record) -> None:
        """Stops the trainings that run, and waits for their ends."""
        for one in self._trainings_of(job):
            self._trainings.stop(one[TRAINING.name])
        while not self._closing.is_set():
            if all(one["TrainingJobStatus"] not in RUNNING for one in self._trainings_of(job)):
                return
            time.sleep(_POLL_S)

    def _end(self, name: str, status: str, **fields: Any) -> None:
        if not self._closing.is_set():
            self._shared.state.change(
                TUNING.state, name, **{TUNING.status: status, "HyperParameterTuningEndTime": now(), **fields}
            )


_ALL_FAILED = "All training jobs failed. Please take a look at the training jobs failures to get more details."


def _maximize(config: dict[str, Any]) -> bool:
    return bool(config["HyperParameterTuningJobObjective"]["Type"] == "Maximize")


def _tried(job: Record, training: Record) -> Tried:
    metric = job["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
    return Tried(
        values=training.get("_tuned", {}),
        objective=objective_of(job, training),
        running=training["TrainingJobStatus"] in RUNNING,
        history=tuple(one for one in training.get("_history", {}).get(metric, []) if math.isfinite(one)),
    )


def _falls_behind(config: dict[str, Any], tried: list[Tried], place: int) -> bool:
    one, others = tried[place], tried[:place] + tried[place + 1 :]
    if not one.history:
        return False
    if config["Strategy"] == "Hyperband":
        resources = config.get("StrategyConfig", {}).get("HyperbandStrategyConfig", {})
        if len(one.history) >= resources.get("MaxResource", math.inf):
            return True
        return behind_rung(one, others, lowest=resources.get("MinResource", 1), maximize=_maximize(config))
    if config.get("TrainingJobEarlyStoppingType") == "Auto":
        return behind_median(one, others, maximize=_maximize(config))
    return False


def _definition(params: dict[str, Any]) -> dict[str, Any]:
    if "TrainingJobDefinition" not in params or "TrainingJobDefinitions" in params:
        raise validation("The service on this machine tunes one TrainingJobDefinition.")
    definition: dict[str, Any] = params["TrainingJobDefinition"]
    return definition


def _training(definition: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """What one training of a tuning job is asked."""
    left = dict(definition)
    resources = left.pop("HyperParameterTuningResourceConfig", None)
    if resources is not None:
        first = resources.get("InstanceConfigs", [resources])[0]
        left["ResourceConfig"] = {
            "InstanceType": first.get("InstanceType", ""),
            "InstanceCount": first.get("InstanceCount", 1),
            "VolumeSizeInGB": first.get("VolumeSizeInGB", resources.get("VolumeSizeInGB", 30)),
        }
    static = left.pop("StaticHyperParameters", {})
    for member in ("DefinitionName", "TuningObjective", "HyperParameterRanges"):
        left.pop(member, None)
    return {**left, "HyperParameters": {**static, **values}}


def _check(config: dict[str, Any], definition: dict[str, Any]) -> tuple[Range, ...]:
    strategy, limits = config["Strategy"], config["ResourceLimits"]
    if strategy not in _STRATEGIES:
        raise validation(f"Strategy {strategy} is none of {', '.join(sorted(_STRATEGIES))}.")
    if strategy == "Bayesian" and importlib.util.find_spec("optuna") is None:
        raise validation("Bayesian search needs optuna on this machine: pip install 'bintally[tune]'")
    objective = config.get("HyperParameterTuningJobObjective")
    if objective is None:
        raise validation("HyperParameterTuningJobObjective is needed with a TrainingJobDefinition.")
    known = [one["Name"] for one in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if objective["MetricName"] not in known:
        raise validation(
            f"The objective metric {objective['MetricName']} is none of the MetricDefinitions: {', '.join(known) or 'none'}."
        )
    ranges = read_ranges(config.get("ParameterRanges", {}))
    if strategy == "Grid" and any(not one.values for one in ranges):
        raise validation("Grid search takes categorical parameters only.")
    most, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    if most is None and strategy != "Grid":
        raise validation("MaxNumberOfTrainingJobs is needed, but for Grid search.")
    if strategy == "Grid" and most is not None and most != grid_size(ranges):
        raise validation(
            f"Grid search trains every combination: MaxNumberOfTrainingJobs must be {grid_size(ranges)}."
        )
    if most is not None and parallel > most:
        raise validation("MaxParallelTrainingJobs must not exceed MaxNumberOfTrainingJobs.")
    if strategy == "Hyperband" and config.get("TrainingJobEarlyStoppingType") == "Auto":
        raise validation("TrainingJobEarlyStoppingType must be Off with Hyperband, which stops jobs itself.")
    return ranges
