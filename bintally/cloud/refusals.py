"""What the service's refusals mean, in one line each: what happened, to which request, and what to do."""

import re
from collections.abc import Mapping
from typing import Any

from botocore import exceptions

from bintally.errors import BintallyError, CloudAccessError, CloudError, CloudLimitError, SettingsError

THROTTLED = {
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
    "PriorRequestNotComplete",
}
"""Codes that mean: not so fast. botocore sends such requests again by itself, with growing waits."""

EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN_KEYS = {
    *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationToken"),
    *("MissingAuthenticationTokenException", "IncompleteSignature"),
}
WRONG_SIGNATURE = {"SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized", "OptInRequired", "403"}
QUOTA = {"ResourceLimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"}
CAPACITY = {"InsufficientInstanceCapacity", "CapacityError", "InsufficientCapacity", "InsufficientHostCapacity"}

_MISSING = re.compile(
    r"could not find|not found|does not exist|cannot find|no (such )?(training|tuning|transform|endpoint|model)", re.I
)

_CREDENTIALS = (
    "give them as boto3 finds them (`aws configure`, `aws sso login`, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the "
    "role of the machine); for the service on this machine: bintally cloud local"
)


def told(error: Exception, operation: str) -> BintallyError:
    """The error that a person reads for one of boto3's.

    Args:
        error: what boto3 raised.
        operation: what was asked, such as "CreateTrainingJob".
    """
    if isinstance(error, exceptions.ClientError):
        return _refused(error.response, operation)
    if isinstance(error, exceptions.NoCredentialsError):
        return CloudAccessError(f"{operation}: there are no AWS credentials: {_CREDENTIALS}")
    if isinstance(error, exceptions.PartialCredentialsError | exceptions.CredentialRetrievalError):
        return CloudAccessError(f"{operation}: the AWS credentials cannot be used ({error}): {_CREDENTIALS}")
    if isinstance(error, exceptions.SSOError | exceptions.TokenRetrievalError | exceptions.UnauthorizedSSOTokenError):
        return CloudAccessError(f"{operation}: the sign-in has ended ({error}): run `aws sso login` and try again")
    if isinstance(error, exceptions.ProfileNotFound):
        return SettingsError(f"{error}: AWS_PROFILE names a profile that ~/.aws/config does not have")
    if isinstance(error, exceptions.NoRegionError):
        return no_region()
    if isinstance(error, exceptions.ParamValidationError):
        return SettingsError(f"{operation}: {' '.join(str(error).split())}")
    if isinstance(error, exceptions.HTTPClientError | exceptions.EndpointConnectionError | OSError):
        return CloudError(f"{operation}: the service cannot be reached: {' '.join(str(error).split())}")
    return CloudError(f"{operation}: {' '.join(str(error).split())}")


def no_region() -> SettingsError:
    """The error of not knowing where."""
    return SettingsError("no region is set: give --region, BINTALLY_CLOUD_REGION or AWS_REGION, such as us-east-1")


def is_unreachable(error: Exception) -> bool:
    """Whether an error of boto3's says that there was no answer, or none of the service's making."""
    if isinstance(error, exceptions.ClientError):
        return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
    unreachable = exceptions.HTTPClientError | exceptions.ConnectionError | exceptions.EndpointConnectionError
    return isinstance(error, unreachable)


def is_missing(error: Exception) -> bool:
    """Whether a refusal says that there is no such thing, rather than that the request is wrong.

    The service answers both with `ValidationException`; for a missing thing it says "Could not find …" or
    "Requested resource not found".
    """
    if not isinstance(error, exceptions.ClientError):
        return False
    body = error.response.get("Error", {})
    if body.get("Code") in {"ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException", "404"}:
        return True
    return body.get("Code") == "ValidationException" and bool(_MISSING.search(body.get("Message", "")))


def _refused(response: Mapping[str, Any], operation: str) -> BintallyError:
    body = response.get("Error", {})
    code, message = str(body.get("Code", "")), " ".join(str(body.get("Message", "")).split()).rstrip(".")
    attempts = int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) + 1
    if code in THROTTLED:
        return CloudLimitError(
            f"{operation}: the service asked to slow down {attempts} times ({code}: {message}); wait a minute and try "
            "again, or raise [cloud] attempts"
        )
    if code in EXPIRED:
        return CloudAccessError(
            f"{operation}: the AWS credentials have expired ({code}): sign in again (`aws sso login`), or renew the "
            "session's keys"
        )
    if code in UNKNOWN_KEYS:
        return CloudAccessError(
            f"{operation}: the service does not know these AWS credentials ({code}): {_CREDENTIALS}"
        )
    if code in WRONG_SIGNATURE:
        return CloudAccessError(
            f"{operation}: the request's signature is refused ({code}): check the secret key, and this machine's clock"
        )
    if code in DENIED:
        return CloudAccessError(_denied(message, code, operation))
    if code in QUOTA:
        return CloudLimitError(
            f"{operation}: a quota of the account stands against it ({code}: {message}): take another instance type, or "
            "ask for more at Service Quotas"
        )
    if code in CAPACITY:
        return CloudLimitError(f"{operation}: {capacity(message)}")
    if code in {"ResourceInUse", "ResourceInUseException"}:
        return CloudError(f"{operation}: {message} ({code}): give another name with --name")
    if code in {"NoSuchBucket", "NoSuchKey", "404"}:
        return CloudError(
            f"{operation}: {message or 'there is no such object'} ({code}): check the bucket and the path"
        )
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status >= 500:
        return CloudError(f"{operation}: the service failed {attempts} times ({code}: {message}); try again later")
    return CloudError(f"{operation}: {message or 'refused'} ({code})")


def _denied(message: str, code: str, operation: str) -> str:
    """The line of a refusal by policy: which action, and who may not."""
    action = re.search(r"perform:? ([\w-]+:\w+)", message)
    who = re.search(r"(arn:[\w-]+:(?:sts|iam)::\S+?)(?: is not authorized|$)", message)
    wanted = action.group(1) if action else f"sagemaker:{operation}"
    person = f"{who.group(1)} may not do {wanted}" if who else f"{wanted} is not allowed"
    return (
        f"{operation}: {person} ({code}): add it to the policy of whoever runs bintally (docs/aws-first-run.md has one)"
        + ("" if action else f"; the service says: {message}")
    )


def capacity(message: str) -> str:
    """The line of a lack of machines."""
    said = f" ({message})" if message else ""
    return (
        f"the service has no free machine of that type at the moment{said}: try again later, or another instance type, "
        "region or number of machines"
    )


def failure_reason(reason: str) -> BintallyError | None:
    """The error in a job's FailureReason, where it is one of the account or the service rather than of the program."""
    text = " ".join(reason.split()).rstrip(".")
    if re.search(
        r"CapacityError|InsufficientInstanceCapacity|Unable to provision requested ML compute capacity", text
    ):
        return CloudLimitError(capacity(text))
    if re.search(r"ResourceLimitExceeded|service limit", text):
        return CloudLimitError(
            f"a quota of the account stands against it ({text}): take another instance type, or ask for more at Service "
            "Quotas"
        )
    if re.search(r"AccessDenied|not authorized|Access denied|Forbidden", text):
        return CloudAccessError(f"the job's role may not do something ({text}): docs/aws-first-run.md has its policy")
    return None
