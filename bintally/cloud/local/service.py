"""The whole service: its parts made and wired, every operation by its name, its start after a restart and its end."""

import contextlib
import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bintally import files
from bintally.cloud.local.bucket import Access, Bucket
from bintally.cloud.local.checks import read_params
from bintally.cloud.local.children import Children
from bintally.cloud.local.endpoints import Endpoints
from bintally.cloud.local.faults import Faults
from bintally.cloud.local.logs import Logs
from bintally.cloud.local.models import Models
from bintally.cloud.local.names import Place, Tags
from bintally.cloud.local.objects import ObjectServer
from bintally.cloud.local.options import LocalSettings
from bintally.cloud.local.scaling import Scaling
from bintally.cloud.local.shared import CHECKSUMS, Programs, Shared
from bintally.cloud.local.state import State
from bintally.cloud.local.training import Trainings
from bintally.cloud.local.transform import Transforms
from bintally.cloud.local.tuning import Tunings
from bintally.cloud.local.wire import Answer, Call, ServiceError, read_call, write_answer, write_refusal

Handler = Callable[[dict[str, Any]], Any]

_log = logging.getLogger(__name__)


class Service:
    """The managed service on this machine. Any number of threads may ask it at the same time."""

    def __init__(self, root: Path, settings: LocalSettings, programs: Programs | None = None) -> None:
        """Opens the service's folder; nothing runs yet.

        Args:
            root: its folder: state, logs, the bucket, the folders of containers.
            settings: its limits.
            programs: what the images' `train` and `serve` are; bintally's own by default.

        Raises:
            UsageError: another service runs on the folder.
            BintallyError: what it holds is damaged.
        """
        self._root, self.settings = root.absolute(), settings
        self._programs = programs or Programs()
        self._state = State(self._root / "state")
        self._children = Children(self._root / "children")
        self._objects = ObjectServer(self._root / "bucket", self._children, log=self._root / "bucket.log")
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._parts: tuple[Tunings | Trainings | Transforms | Endpoints, ...] = ()
        self.access = Access(endpoint=settings.s3_endpoint, region=settings.region)

    def start(self) -> None:
        """Starts the bucket's server, and goes on with what the last service on the folder left.

        Raises:
            MissingExtraError: the bucket's server is not installed.
            BintallyError: it does not start.
        """
        settings = self.settings
        self._children.end_leftovers()
        if not settings.s3_endpoint:
            self.access = self._objects.start(settings.s3_port, self._keys())
            (self._root / "bucket" / settings.bucket).mkdir(exist_ok=True)
        shared = Shared(
            root=self._root,
            settings=settings,
            place=Place(region=settings.region, account=settings.account),
            state=self._state,
            logs=Logs(self._root / "logs"),
            bucket=Bucket(self.access),
            access=self.access,
            children=self._children,
            faults=Faults(settings.faults),
            programs=self._programs,
            room=threading.Semaphore(settings.parallel_jobs),
        )
        self.shared = shared
        trainings, models = Trainings(shared), Models(shared)
        endpoints = Endpoints(shared, models)
        # In the order of their end: a tuning job must not take the end of its trainings for theirs.
        self._parts = (Tunings(shared, trainings), trainings, Transforms(shared, models), endpoints)
        for part in (*self._parts, models, shared.logs, Tags(self._state), Scaling(shared)):
            self._handlers |= part.operations()
        self._handlers["sts", "GetCallerIdentity"] = self._identity
        self._invoke = endpoints.invoke
        # And in the order of their start: what a tuning job finds of its trainings is settled then.
        for started in (trainings, *(one for one in self._parts if one is not trainings)):
            started.resume()

    def stop(self) -> None:
        """Ends everything that runs; what can go on does so with the next service on the folder.

        Trainings get up to 20 s to write a checkpoint. When this is itself interrupted, everything ends at once.
        """
        try:
            for part in self._parts:
                part.shut_down()
            self._objects.stop()
        finally:
            self._children.kill_all()
            self._state.close()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answers one HTTP request.

        Args:
            method: of HTTP.
            path: without its query.
            headers: lower-case name → value.
            body: as it came.
        """
        service = "sagemaker-runtime" if path.startswith("/endpoints/") else "sagemaker"
        try:
            call = read_call(method, path, headers, body)
            service = call.service
            return write_answer(call, self.carry_out(call))
        except ServiceError as error:
            return write_refusal(service, error)
        except Exception as error:  # noqa: BLE001 - the last resort of one request: told, never fatal
            _log.exception("a mistake in bintally: %s %s", method, path)
            return write_refusal(
                service, ServiceError("InternalFailure", f"{type(error).__name__}: {error}", status=500)
            )

    def carry_out(self, call: Call) -> Any:
        """Carries out one call and returns what it answers. Raises ServiceError when it is refused."""
        self.shared.faults.meet(call.operation)
        if call.operation == "InvokeEndpoint":
            return self._invoke(call)
        params = {} if call.service == "sts" else read_params(call.service, call.operation, call.body)
        handler = self._handlers.get((call.service, call.operation))
        if handler is None:
            raise ServiceError(
                "UnknownOperationException",
                f"{call.operation[:100]} is not carried out by the service on this machine",
                status=404,
            )
        return handler(params)

    def environment(self, url: str) -> dict[str, str]:
        """The variables by which AWS clients find this service instead of Amazon's.

        Args:
            url: where it listens.
        """
        services = ("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH_LOGS", "APPLICATION_AUTO_SCALING", "STS")
        # The plain one for every other service: such a request is refused here rather than sent to Amazon.
        found = {"AWS_ENDPOINT_URL": url, **{f"AWS_ENDPOINT_URL_{name}": url for name in services}}
        found |= {"AWS_REGION": self.settings.region, "AWS_DEFAULT_REGION": self.settings.region}
        if self.access.access_key:
            found |= {
                "AWS_ENDPOINT_URL_S3": self.access.endpoint,
                "AWS_ACCESS_KEY_ID": self.access.access_key,
                "AWS_SECRET_ACCESS_KEY": self.access.secret_key,
            }
        elif self.access.endpoint:
            found["AWS_ENDPOINT_URL_S3"] = self.access.endpoint
        return found | dict(CHECKSUMS)

    def _identity(self, params: dict[str, Any]) -> dict[str, Any]:
        account = self.settings.account
        return {"Arn": f"arn:aws:iam::{account}:user/local", "UserId": "AIDALOCAL", "Account": account}

    def _keys(self) -> Access:
        """The bucket's credentials: of no use anywhere else, and the same after a restart."""
        path = self._root / "keys.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            return Access(region=self.settings.region, access_key=kept["access"], secret_key=kept["secret"])
        keys = {"access": f"local{secrets.token_hex(6)}", "secret": secrets.token_hex(16)}
        files.write_json(path, keys)
        path.chmod(0o600)
        return Access(region=self.settings.region, access_key=keys["access"], secret_key=keys["secret"])
