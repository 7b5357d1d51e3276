"""Every error that bintally raises on purpose, on one page.

A `BintallyError` is a message for a person: one line that says what, where and what to do. The command line
prints it and exits with the error's `exit_code`; nothing else is ever shown of it.
"""


class BintallyError(Exception):
    """What went wrong, where, and what to do about it, in one line."""

    exit_code = 1


class SettingsError(BintallyError):
    """A setting is unknown, of the wrong kind or out of range."""

    exit_code = 2


class UsageError(BintallyError):
    """The words of a command do not fit together."""

    exit_code = 2


class MissingExtraError(BintallyError):
    """A library that this command needs is not installed; the message names the extra to install."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'bintally[{extra}]'")


class StoreError(BintallyError):
    """An object store did not give or take what was asked of it."""


class StoreUnreachableError(StoreError):
    """The store's endpoint could not be reached at all."""


class AccessDeniedError(StoreError):
    """The store refused the credentials, or the lack of them."""


class ObjectNotFoundError(StoreError):
    """The store has no object of that name."""


class DiskFullError(BintallyError):
    """The disk has no room for what was to be written; nothing half-written was left under the final name."""


class RecordError(BintallyError):
    """A bin's metadata is not what the public format says."""


class UnreadablePhotoError(BintallyError):
    """The bytes are no photo that can be counted; the message is the reason."""


class ManifestError(BintallyError):
    """A manifest is missing, damaged, changed by hand, or not fit for the task."""


class SplitError(BintallyError):
    """The photos cannot be split as asked."""


class BackboneError(BintallyError):
    """A pretrained backbone could not be found or loaded."""


class RunError(BintallyError):
    """A training run is missing, damaged, or does not fit what is asked of it."""


class ModelError(BintallyError):
    """A model folder is missing, damaged, or differs from its card."""


class EndpointError(BintallyError):
    """A served counter did not answer, or refused what was asked of it."""


class RunStoppedError(RunError):
    """A training was asked to stop, and did so after writing a checkpoint; the exit code says by which signal."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CloudError(BintallyError):
    """The managed service did not take, or did not answer, a request."""


class CloudAccessError(CloudError):
    """There are no credentials, or they have expired, or they may not do this."""


class CloudLimitError(CloudError):
    """A quota, a lack of machines or too many requests stand against it; the same request may be taken later."""


class JobFailedError(CloudError):
    """A job or an endpoint of the service ended otherwise than well."""


class FollowStoppedError(CloudError):
    """Following a job was stopped by Ctrl-C; the job was not, unless the message says so."""

    exit_code = 130
