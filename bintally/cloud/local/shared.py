"""What the parts of the service share: its state, logs, bucket, children and settings; quotas; room for jobs."""

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bintally.cloud.local.bucket import Access, Bucket
from bintally.cloud.local.children import Children
from bintally.cloud.local.faults import Faults
from bintally.cloud.local.logs import Logs
from bintally.cloud.local.names import Place
from bintally.cloud.local.options import LocalSettings
from bintally.cloud.local.state import State
from bintally.cloud.local.wire import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """What the images' `train` and `serve` are here."""

    train: Sequence[str] = (sys.executable, "-m", "bintally", "train")
    serve: Sequence[str] = (sys.executable, "-m", "bintally", "serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Made once for a service.

    Attributes:
        root: the service's folder.
        access: how the programs reach the bucket.
        room: places for jobs that run at the same time.
    """

    root: Path
    settings: LocalSettings
    place: Place
    state: State
    logs: Logs
    bucket: Bucket
    access: Access
    children: Children
    faults: Faults
    programs: Programs
    room: threading.Semaphore

    @property
    def trees(self) -> Path:
        """Where the folders of containers are."""
        return self.root / "containers"

    def cloud_environ(self) -> dict[str, str]:
        """The variables by which a program finds the bucket, as a container's role would let it."""
        access = self.access
        found = {"AWS_REGION": access.region, "AWS_DEFAULT_REGION": access.region}
        if access.access_key:
            found |= {"AWS_ACCESS_KEY_ID": access.access_key, "AWS_SECRET_ACCESS_KEY": access.secret_key}
        else:
            found |= {name: value for name, value in os.environ.items() if name in _CREDENTIALS}
        if access.endpoint:
            found |= {"AWS_ENDPOINT_URL": access.endpoint, "AWS_ENDPOINT_URL_S3": access.endpoint}
            found |= dict(CHECKSUMS)
        return found

    def check_quota(self, instance_type: str, usage: str, wanted: int, used: int) -> None:
        """Raises ServiceError when a request would take more instances of a type than there may be."""
        limit = self.settings.quota_of(instance_type)
        if used + wanted > limit:
            raise ServiceError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{instance_type} for {usage} usage' is {limit} Instances, with current "
                f"utilization of {used} Instances and a request delta of {wanted} Instances. Please use AWS Service "
                "Quotas to request an increase for this quota. If AWS Service Quotas is not available, contact AWS "
                "support to request an increase for this quota.",
            )

    def wait_for_room(self, stopped: Callable[[], bool]) -> bool:
        """Waits for a place among the jobs that run. False when it was stopped before."""
        while not stopped():
            if self.room.acquire(timeout=0.1):
                return True
        return False


CHECKSUMS: Mapping[str, str] = {
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
}
"""What clients are told so that S3 servers which are not Amazon's understand them."""

_CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"}
