"""Batch transforms: every object below a prefix asked of a model's program, its answer written as <key>.out."""

import json
import shutil
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from bintally.cloud.local import logs
from bintally.cloud.local.bucket import Found, TransferError, split_uri
from bintally.cloud.local.endpoints import MAX_BODY
from bintally.cloud.local.models import Models, container_of
from bintally.cloud.local.names import TRANSFORM, list_page
from bintally.cloud.local.served import Replied, Served
from bintally.cloud.local.shared import Shared
from bintally.cloud.local.state import Record, now, shown
from bintally.cloud.local.wire import ServiceError, validation

RUNNING = {"InProgress", "Stopping"}
_BUSY = {429, 503}
_MOST_PAYLOAD_MB = 100
_SEE_LOG = "ClientError: See job logs for more information"


class Transforms:
    """Every batch transform job."""

    def __init__(self, shared: Shared, models: Models) -> None:
        self._shared, self._models = shared, models
        self._stops: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []
        self._closing = False

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations on batch transforms."""
        return {
            ("sagemaker", "CreateTransformJob"): self._create,
            ("sagemaker", "DescribeTransformJob"): lambda params: shown(self._get(params[TRANSFORM.name])),
            ("sagemaker", "ListTransformJobs"): lambda params: list_page(self._shared.state, TRANSFORM, params),
            ("sagemaker", "StopTransformJob"): self._stop,
        }

    def resume(self) -> None:
        """Marks the jobs that ran when the last service ended."""
        for job in self._shared.state.all(TRANSFORM.state):
            if job[TRANSFORM.status] in RUNNING:
                self._end(job[TRANSFORM.name], "Failed", _DIED)
        shutil.rmtree(self._shared.trees / TRANSFORM.state, ignore_errors=True)

    def shut_down(self) -> None:
        """Ends every job that runs."""
        self._closing = True
        for stop in self._stops.values():
            stop.set()
        for thread in self._threads:
            thread.join(30)

    def _get(self, name: str) -> Record:
        job = self._shared.state.get(TRANSFORM.state, name)
        if job is None:
            raise validation(f"Could not find requested job with name: {name}")
        return job

    def _create(self, params: dict[str, Any]) -> dict[str, Any]:
        name = params[TRANSFORM.name]
        arn = self._shared.place.arn(TRANSFORM, name)
        source = params["TransformInput"]
        if source["DataSource"]["S3DataSource"]["S3DataType"] != "S3Prefix":
            raise validation("The service on this machine transforms what lies below an S3Prefix.")
        if source.get("SplitType", "None") != "None" or source.get("CompressionType", "None") != "None":
            raise validation(
                "The service on this machine transforms whole objects: SplitType and CompressionType None."
            )
        if params.get("BatchStrategy") == "MultiRecord":
            raise validation(
                "BatchStrategy MultiRecord needs a SplitType, which the service on this machine has not."
            )
        if params.get("MaxConcurrentTransforms", 1) * params.get("MaxPayloadInMB", 6) > _MOST_PAYLOAD_MB:
            raise validation(f"MaxConcurrentTransforms * MaxPayloadInMB must not exceed {_MOST_PAYLOAD_MB} MB.")
        container = container_of(self._models.model(params["ModelName"]))
        resources = params["TransformResources"]
        used = sum(
            one["TransformResources"]["InstanceCount"]
            for one in self._shared.state.all(TRANSFORM.state)
            if one[TRANSFORM.status] in RUNNING
            and one["TransformResources"]["InstanceType"] == resources["InstanceType"]
        )
        self._shared.check_quota(resources["InstanceType"], "transform job", resources["InstanceCount"], used)
        job: Record = {
            **{key: value for key, value in params.items() if key != "Tags"},
            TRANSFORM.arn: arn,
            TRANSFORM.status: "InProgress",
            "CreationTime": now(),
            "_container": {
                **container,
                "Environment": {**container.get("Environment", {}), **params.get("Environment", {})},
            },
            "_tags": params.get("Tags", []),
        }

        def taken() -> ServiceError:
            return ServiceError(
                "ResourceInUse",
                f"Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})",
            )

        self._shared.state.add(TRANSFORM.state, name, job, taken)
        self._stops[name] = threading.Event()
        thread = threading.Thread(target=self._work, args=(name,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return {TRANSFORM.arn: arn}

    def _stop(self, params: dict[str, Any]) -> None:
        name = params[TRANSFORM.name]
        status = self._get(name)[TRANSFORM.status]
        if status not in RUNNING:
            raise validation(f"The request was rejected because the transform job is in status {status}.")
        self._shared.state.change(TRANSFORM.state, name, TransformJobStatus="Stopping")
        self._stops[name].set()

    # ------------------------------------------------------------------ the way of a job

    def _work(self, name: str) -> None:
        stop = self._stops[name]
        try:
            if not self._shared.wait_for_room(stop.is_set):
                reason = ""
            else:
                try:
                    reason = self._carry_out(name, stop)
                finally:
                    self._shared.room.release()
        except TransferError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - the last resort of one job: it fails and says why, the service goes on
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        if self._closing:
            self._end(name, "Failed", _DIED)
        elif stop.is_set():
            self._end(name, "Stopped", "")
        else:
            self._end(name, "Failed" if reason else "Completed", reason)

    def _carry_out(self, name: str, stop: threading.Event) -> str:
        """Returns why the job has failed; nothing when it has not."""
        job = self._get(name)
        uri = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        found = self._shared.bucket.list(uri)
        if not found:
            return f"ClientError: No S3 objects found under S3 URL {uri!r} given in TransformInput."
        self._shared.state.change(TRANSFORM.state, name, TransformStartTime=now())
        write = self._shared.logs.writer(logs.TRANSFORM, f"{name}/i-{int(job['CreationTime']):x}")
        folder = self._shared.trees / TRANSFORM.state / name
        served = Served(self._shared, job["_container"], folder, write, what="the transform job")
        served.start()
        try:
            # Until it is healthy or has failed for good; a stop is looked at in between.
            while not served.wait_ready(0.2):
                if stop.is_set() or served.is_over:
                    return served.reason or "AlgorithmError: the model's program did not start"
            num = job.get("MaxConcurrentTransforms") or _own_limit(served)
            return self._ask_all(job, found, served, stop, write, num)
        finally:
            served.stop()

    def _ask_all(
        self, job: Record, found: list[Found], served: Served, stop: threading.Event, write: Any, num: int
    ) -> str:
        failed: list[str] = []
        todo = iter(found)
        with ThreadPoolExecutor(num) as pool:
            under_way: set[Future[str]] = set()
            while not stop.is_set():
                for one in todo:
                    under_way.add(pool.submit(self._ask, job, one, served, stop))
                    if len(under_way) >= 2 * num:
                        break
                if not under_way:
                    break
                done, under_way = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    if said := future.result():
                        write(said)
                        failed.append(said)
        if not failed:
            return ""
        return f"{_SEE_LOG}: {len(failed)} of {len(found)} objects failed, such as {failed[0]}"[:1024]

    def _ask(self, job: Record, one: Found, served: Served, stop: threading.Event) -> str:
        """Returns why an object's answer was not written; nothing when it was."""
        source, target = job["TransformInput"], job["TransformOutput"]
        bucket = split_uri(source["DataSource"]["S3DataSource"]["S3Uri"])[0]
        limit = min(job.get("MaxPayloadInMB", 6) * 1024 * 1024 or MAX_BODY, _MOST_PAYLOAD_MB * 1024 * 1024)
        if one.num_bytes > limit:
            return f"{one.key}: {one.num_bytes} bytes are more than MaxPayloadInMB"
        headers = {"Content-Type": source["ContentType"]} if "ContentType" in source else {}
        headers |= {"Accept": target["Accept"]} if "Accept" in target else {}
        config = job.get("ModelClientConfig", {})
        limit_s, tries = config.get("InvocationsTimeoutInSeconds", 600), config.get("InvocationsMaxRetries", 3) + 1
        try:
            body = self._shared.bucket.read(f"s3://{bucket}/{one.key}")
            replied = _tried(served, body, headers, limit_s, tries, stop)
            if replied is None:
                return f"{one.key}: the model's program did not answer"
            if not 200 <= replied.status < 300:
                said = replied.body.decode("utf-8", "replace")[:500]
                return f"{one.key}: the model answered {replied.status}: {said}"
            end = b"\n" if target.get("AssembleWith") == "Line" and not replied.body.endswith(b"\n") else b""
            self._shared.bucket.write(f"{target['S3OutputPath'].rstrip('/')}/{one.name}.out", replied.body + end)
        except TransferError as error:
            return str(error)
        return ""

    def _end(self, name: str, status: str, reason: str) -> None:
        self._shared.state.change(
            TRANSFORM.state,
            name,
            TransformJobStatus=status,
            TransformEndTime=now(),
            FailureReason=reason[:1024] or None,
        )


_DIED = (
    "InternalServerError: the service on this machine ended while the job ran; what it has written is in the bucket"
)


def _own_limit(served: Served) -> int:
    """How many requests at once the model's program asks for; one when it does not say."""
    try:
        answer = served.ask("GET", "/execution-parameters", b"", {}, 10)
        return max(1, min(32, int(json.loads(answer.body)["MaxConcurrentTransforms"]))) if answer.status == 200 else 1
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def _tried(
    served: Served, body: bytes, headers: dict[str, str], limit_s: float, tries: int, stop: threading.Event
) -> Replied | None:
    """One request, tried again while the program is busy or away. None when it never answered."""
    replied = None
    for attempt in range(tries):
        if stop.is_set() or not served.wait_ready(60):
            break
        try:
            replied = served.ask("POST", "/invocations", body, headers, limit_s)
        except OSError:
            replied = None
        if replied is not None and replied.status not in _BUSY and replied.status < 500:
            break
        if attempt < tries - 1:
            time.sleep(min(5.0, 0.25 * 2**attempt))
    return replied
