from typing import Any

import pytest
from botocore import exceptions

from bintally.cloud.refusals import failure_reason, is_missing, is_unreachable, told
from bintally.errors import CloudAccessError, CloudError, CloudLimitError, SettingsError


def refusal(code: str, message: str = "", status: int = 400, retries: int = 0) -> exceptions.ClientError:
    meta: dict[str, Any] = {"HTTPStatusCode": status, "RetryAttempts": retries}
    return exceptions.ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": meta}, "Op")


DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/dev/me is not authorized to perform: sagemaker:CreateTrainingJob on "
    "resource: arn:aws:sagemaker:us-east-1:123456789012:training-job/x because no identity-based policy allows the "
    "sagemaker:CreateTrainingJob action"
)
PASS_ROLE = (
    "User: arn:aws:iam::123456789012:user/me is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1"
)
QUOTA = (
    "The account-level service limit 'ml.g5.xlarge for training job usage' is 0 Instances, with current utilization of 0 "
    "Instances and a request delta of 1 Instances. Please use AWS Service Quotas to request an increase for this quota."
)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            refusal("AccessDeniedException", DENIED),
            CloudAccessError,
            "assumed-role/dev/me may not do sagemaker:CreateTrain",
        ),
        (refusal("AccessDeniedException", PASS_ROLE), CloudAccessError, "user/me may not do iam:PassRole"),
        (refusal("AccessDenied", "Access Denied", 403), CloudAccessError, "sagemaker:Op is not allowed"),
        (refusal("ExpiredTokenException", "expired", 403), CloudAccessError, "credentials have expired"),
        (refusal("UnrecognizedClientException", "bad", 403), CloudAccessError, "does not know these AWS credentials"),
        (refusal("InvalidSignatureException", "bad", 403), CloudAccessError, "this machine's clock"),
        (refusal("ResourceLimitExceeded", QUOTA), CloudLimitError, "ml.g5.xlarge for training job usage"),
        (refusal("InsufficientInstanceCapacity", ""), CloudLimitError, "no free machine of that type"),
        (refusal("ThrottlingException", "Rate exceeded", retries=4), CloudLimitError, "asked to slow down 5 times"),
        (refusal("ResourceInUse", "Training job names must be unique"), CloudError, "another name with --name"),
        (refusal("InternalFailure", "oops", 500, 7), CloudError, "the service failed 8 times"),
        (
            refusal("ValidationException", "1 validation error"),
            CloudError,
            "1 validation error (ValidationException)",
        ),
        (refusal("NoSuchBucket", "The specified bucket does not exist", 404), CloudError, "check the bucket"),
        (exceptions.NoCredentialsError(), CloudAccessError, "bintally cloud local"),
        (
            exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
            CloudAccessError,
            "env",
        ),
        (exceptions.UnauthorizedSSOTokenError(), CloudAccessError, "aws sso login"),
        (exceptions.NoRegionError(), SettingsError, "--region"),
        (exceptions.ProfileNotFound(profile="x"), SettingsError, "AWS_PROFILE"),
        (exceptions.EndpointConnectionError(endpoint_url="http://x"), CloudError, "cannot be reached"),
        (exceptions.ReadTimeoutError(endpoint_url="http://x"), CloudError, "cannot be reached"),
    ],
)
def test_each_refusal_is_one_clear_line(error: Exception, kind: type[Exception], words: str) -> None:
    made = told(error, "Op")
    assert type(made) is kind
    assert words in str(made)
    assert "\n" not in str(made)


def test_missing_is_not_wrong() -> None:
    assert is_missing(refusal("ValidationException", "Requested resource not found."))
    assert is_missing(refusal("ValidationException", 'Could not find endpoint "arn:aws:…".'))
    assert is_missing(refusal("ResourceNotFoundException", "The specified log group does not exist."))
    assert not is_missing(refusal("ValidationException", "1 validation error detected: Value at 'x' failed"))
    assert not is_missing(refusal("AccessDeniedException", DENIED))
    assert not is_missing(exceptions.NoCredentialsError())


def test_unreachable_is_no_answer() -> None:
    assert is_unreachable(exceptions.ConnectTimeoutError(endpoint_url="http://x"))
    assert is_unreachable(exceptions.EndpointConnectionError(endpoint_url="http://x"))
    assert is_unreachable(refusal("ServiceUnavailable", "", 503))
    assert not is_unreachable(refusal("ExpiredTokenException", "", 403))


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("CapacityError: Unable to provision requested ML compute capacity. Please retry.", CloudLimitError),
        ("InsufficientInstanceCapacity: We currently do not have sufficient capacity", CloudLimitError),
        ("ClientError: ResourceLimitExceeded", CloudLimitError),
        ("ClientError: Data download failed: AccessDenied (403)", CloudAccessError),
        ("AlgorithmError: validation photos are missing, exit code: 1", type(None)),
    ],
)
def test_reasons_of_failure(reason: str, kind: type) -> None:
    assert type(failure_reason(reason)) is kind
