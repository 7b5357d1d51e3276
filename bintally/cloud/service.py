"""The connection to the service: boto3's clients, how patiently they ask, and whose errors they raise."""

import contextlib
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bintally import __version__
from bintally.cloud.options import CloudSettings
from bintally.cloud.shapes import SERVICES
from bintally.errors import MissingExtraError

try:
    import boto3
    import boto3.exceptions
    import botocore.config
    from botocore import exceptions
except ImportError as missing:
    raise MissingExtraError("boto3", "cloud") from missing

from bintally.cloud.refusals import THROTTLED, is_missing, is_unreachable, no_region, told

Notice = Callable[[str], None]


def _unheard(_: str) -> None:
    """Nobody listens."""


def _cause(error: Exception) -> Exception:
    inner = error.__cause__ or error.__context__
    return inner if isinstance(inner, exceptions.BotoCoreError | exceptions.ClientError) else error


class Service:
    """SageMaker and what belongs to it, with the credentials of boto3's usual chain.

    Operations are called by their names in the service's own model: `service.call("CreateModel", ModelName=…)`.

    Args:
        settings: region and patience.
        notice: gets a line whenever the service asks to slow down.
    """

    def __init__(self, settings: CloudSettings, notice: Notice = _unheard) -> None:
        self._settings = settings
        self._notice = notice
        self._clients: dict[str, Any] = {}
        with self.translated("sign in"):
            self._session = boto3.Session(region_name=settings.region or os.environ.get("AWS_REGION") or None)
        if not self._session.region_name:
            raise no_region()

    @property
    def region(self) -> str:
        """Where the service is asked."""
        return str(self._session.region_name)

    @property
    def address(self) -> str:
        """The URL of SageMaker as it is asked: Amazon's, or what AWS_ENDPOINT_URL_SAGEMAKER says."""
        return str(self.client("sagemaker").meta.endpoint_url)

    @property
    def is_here(self) -> bool:
        """Whether that is this very machine, where nothing is charged."""
        host = urlsplit(self.address).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def client(self, name: str) -> Any:
        """One of boto3's clients, such as "logs"; made once."""
        if name not in self._clients:
            config = botocore.config.Config(
                retries={"mode": "standard", "total_max_attempts": self._settings.attempts},
                connect_timeout=10,
                read_timeout=60,
                user_agent_extra=f"bintally/{__version__}",
                # Checksums where the operation needs them: S3-compatible servers do not all know the newer ones.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
            with self.translated(f"reach {name}"):
                made = self._session.client(name, config=config)
            made.meta.events.register("needs-retry.*", self._heard)
            self._clients[name] = made
        return self._clients[name]

    def _heard(self, response: Any = None, **_: Any) -> None:
        """Tells that the service is busy; that it answers nothing leaves the decision to botocore."""
        code = (response[1].get("Error", {}) if response else {}).get("Code", "")
        if code in THROTTLED:
            self._notice(f"the service asks to slow down ({code}): waiting, then trying again")

    @contextlib.contextmanager
    def translated(self, operation: str) -> Iterator[None]:
        """Turns boto3's errors into bintally's, within a block.

        Raises:
            CloudError: and its kinds; SettingsError for a region or a profile that is missing.
        """
        try:
            yield
        except boto3.exceptions.Boto3Error as error:  # of a transfer; what it was is the cause
            raise told(_cause(error), operation) from error
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise told(error, operation) from error

    def call(self, operation: str, *, service: str = "", **request: Any) -> dict[str, Any]:
        """Sends one request and gives the answer. Raises CloudError and its kinds."""
        with self.translated(operation):
            return self._sent(operation, request, service)

    def create(self, operation: str, request: Mapping[str, Any]) -> bool:
        """Sends a request that makes something under a new name; returns whether an earlier attempt had made it.

        When an answer is lost on the way, botocore sends the request again, and the service then says that the name
        is taken: by us.
        """
        try:
            self._sent(operation, dict(request))
        except exceptions.ClientError as error:
            taken = error.response.get("Error", {}).get("Code") in {"ResourceInUse", "ResourceInUseException"}
            if taken and error.response.get("ResponseMetadata", {}).get("RetryAttempts"):
                return True
            raise told(error, operation) from error
        except exceptions.BotoCoreError as error:
            raise told(error, operation) from error
        return False

    def find(self, operation: str, *, service: str = "", **request: Any) -> dict[str, Any] | None:
        """As `call`, but None where the service has no such thing."""
        try:
            return self._sent(operation, request, service)
        except exceptions.ClientError as error:
            if is_missing(error):
                return None
            raise told(error, operation) from error
        except exceptions.BotoCoreError as error:
            raise told(error, operation) from error

    def every(self, operation: str, field: str, **request: Any) -> Iterator[dict[str, Any]]:
        """The entries of a List operation, page by page, as they are asked for."""
        while True:
            answer = self.call(operation, **request)
            yield from answer.get(field, ())
            if not answer.get("NextToken"):
                return
            request["NextToken"] = answer["NextToken"]

    def reachable(self, error: BaseException) -> bool:
        """Whether an error that `call` raised was an answer of the service, rather than the lack of one."""
        cause = error.__cause__
        return not (isinstance(cause, Exception) and is_unreachable(cause))

    def _sent(self, operation: str, request: Mapping[str, Any], service: str = "") -> dict[str, Any]:
        client = self.client(service or SERVICES.get(operation, "sagemaker"))
        method = botocore.xform_name(operation)
        answer: dict[str, Any] = getattr(client, method)(**request)
        return answer
