"""Refusals on order: what a client does when the service throttles, denies or has no machine can be rehearsed."""

import threading
from collections.abc import Sequence

from bintally.cloud.local.wire import ServiceError

MESSAGES = {
    "ThrottlingException": "Rate exceeded",
    "AccessDeniedException": "User: arn:aws:iam::000000000000:user/local is not authorized to perform: sagemaker:{name} "
    "because no identity-based policy allows the sagemaker:{name} action",
    "ExpiredTokenException": "The security token included in the request is expired",
    "ServiceUnavailable": "Service is unavailable; try again soon",
    "InternalFailure": "The request processing has failed because of an unknown error, exception or failure.",
    "ResourceLimitExceeded": "The account-level service limit for {name} is reached.",
}
_STATUS = {"ServiceUnavailable": 503, "InternalFailure": 500, "AccessDeniedException": 400}


class Faults:
    """What is still to be refused. Safe to use from any thread."""

    def __init__(self, orders: Sequence[str]) -> None:
        """Takes orders such as "CreateTrainingJob=ThrottlingException:2"."""
        self._lock = threading.Lock()
        self._left: list[tuple[str, str, int]] = []
        for order in orders:
            name, _, rest = order.partition("=")
            code, _, num = rest.partition(":")
            self._left.append((name, code, int(num or 1)))

    def take(self, name: str) -> str:
        """The code of the fault that an operation is to meet now; empty when there is none."""
        with self._lock:
            for place, (of, code, num) in enumerate(self._left):
                if of == name and num:
                    self._left[place] = (of, code, num - 1)
                    return code
        return ""

    def meet(self, operation: str) -> None:
        """Raises the ServiceError that an operation is to meet now, if any."""
        if code := self.take(operation):
            message = MESSAGES.get(code, f"{code}, as ordered").format(name=operation)
            raise ServiceError(code, message, status=_STATUS.get(code, 400))
