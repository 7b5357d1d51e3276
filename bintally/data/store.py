"""Object stores by URL: S3 and what speaks its protocol, folders, web servers, memory; one set of errors for all."""

import asyncio
import errno
import hashlib
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import Field

from bintally.data.leaving import wait_at_exit
from bintally.errors import (
    AccessDeniedError,
    BintallyError,
    DiskFullError,
    MissingExtraError,
    ObjectNotFoundError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)

try:
    import obstore
    from obstore import exceptions as refusals
    from obstore.store import HTTPStore, LocalStore, MemoryStore, S3Store
except ImportError as missing:
    raise MissingExtraError("obstore", "data") from missing

wait_at_exit()

T = TypeVar("T")

PUBLIC_BUCKETS = {"aft-vbi-pds": "us-east-1"}
"""Buckets that anyone may read, and their regions: asked unsigned unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How a store is reached.

    Attributes:
        endpoint: URL of an S3-compatible service; Amazon's own (or AWS_ENDPOINT_URL) when empty. http is allowed.
        region: of the bucket; AWS_REGION or us-east-1 when empty.
        unsigned: ask without credentials. None: only where the bucket is known to be public.
        retries: how often a request is tried again after a 5xx or 429 answer, a timeout or a broken connection.
        backoff_s: wait before the first of these, in seconds; doubled each time, with jitter.
        max_backoff_s: the longest such wait.
        connect_timeout_s: the longest wait for a connection.
        timeout_s: the longest wait for one answer, body included.
    """

    endpoint: str = ""
    region: str = ""
    unsigned: bool | None = None
    retries: Annotated[int, Field(ge=0)] = 5
    backoff_s: Annotated[float, Field(ge=0)] = 0.2
    max_backoff_s: Annotated[float, Field(ge=0)] = 10.0
    connect_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    timeout_s: Annotated[float, Field(gt=0)] = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store says of one object: its name below the store's URL, its size in bytes, when it last changed."""

    name: str
    num_bytes: int
    modified: datetime
    etag: str | None = None


class Store:
    """One object store. Made by `open_store`; every method raises bintally's `StoreError`s and no other.

    Attributes:
        url: what the user called it.
        can_list: whether it can say what it holds (a plain web server cannot).
        lists_in_order: whether `list` goes by name, so that its first objects are always the same ones.
    """

    def __init__(
        self, inner: Any, url: str, settings: StoreSettings, *, can_list: bool = True, lists_in_order: bool = False
    ) -> None:
        self.url = url
        self.can_list = can_list
        self.lists_in_order = lists_in_order
        self._inner = inner
        self._settings = settings
        self._reached = False

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    async def get(self, name: str) -> bytes:
        """The bytes of one object.

        Raises:
            ObjectNotFoundError: there is no such object.
            StoreError: see `_translated` for the others.
        """

        async def once() -> bytes:
            found = await obstore.get_async(self._inner, name)
            return (await found.bytes_async()).to_bytes()

        return await self._tried(once, name)

    async def head(self, name: str) -> ObjectInfo:
        """Size and date of one object, without its bytes. Raises ObjectNotFoundError when there is none."""
        return _info(await self._tried(lambda: obstore.head_async(self._inner, name), name))

    async def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        try:
            await self.head(name)
        except ObjectNotFoundError:
            return False
        return True

    async def list(self, folder: str = "") -> AsyncIterator[ObjectInfo]:
        """Every object in `folder` and the folders below it ("" for all), as the store gives them.

        Raises:
            StoreError: the store cannot list, or does not allow it.
        """
        if not self.can_list:
            raise StoreError(f"{self.url} cannot be listed: a plain web server does not say what it holds")
        try:
            async for chunk in obstore.list(self._inner, folder or None, chunk_size=1000):
                for meta in chunk:
                    yield _info(meta)
        except Exception as error:
            raise _translated(error, self.url, "") from error

    async def put(self, name: str, data: bytes | Path) -> str | None:
        """Writes one object, from memory or from a file, over what was there. Large ones go in several parts.

        Returns:
            The ETag that the store gave it, if it gives any.
        """
        done = await self._tried(lambda: obstore.put_async(self._inner, name, data), name)
        return str(done["e_tag"]) if done.get("e_tag") else None

    async def delete(self, name: str) -> None:
        """Removes one object; that there is none is no error (S3 itself does not say)."""
        try:
            await self._tried(lambda: obstore.delete_async(self._inner, name), name)
        except ObjectNotFoundError:
            return

    async def sha256(self, name: str) -> str:
        """The SHA-256 of an object's bytes in hexadecimal, read piece by piece."""

        async def once() -> str:
            digest = hashlib.sha256()
            found = await obstore.get_async(self._inner, name)
            async for piece in found.stream():
                digest.update(piece)
            return digest.hexdigest()

        return await self._tried(once, name)

    async def _tried(self, once: Callable[[], Awaitable[T]], name: str) -> T:
        # Our own retries rather than obstore's: those do not cover a body that breaks off, and would hold up the
        # answer "unreachable" for minutes.
        settings = self._settings
        attempt = 0
        while True:
            try:
                value = await once()
                self._reached = True
                return value
            except Exception as error:
                refused = not _STATUS.search(str(error)) and bool(_CONNECT.search(str(error)))
                self._reached |= not refused
                # An endpoint that never answered is more likely misspelt than asleep: one more try, then say so.
                patience = settings.retries if self._reached else min(settings.retries, 1)
                if attempt >= patience or not _is_transient(error):
                    raise _translated(error, self.url, name, tries=attempt + 1) from error
            wait = min(settings.max_backoff_s, settings.backoff_s * 2**attempt)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            attempt += 1


def open_store(url: str, settings: StoreSettings | None = None, *, create: bool = False) -> Store:
    """Opens an object store. Nothing is asked of it yet, except that a folder must be there.

    Args:
        url: `s3://bucket[/prefix]`, `file:///folder`, a folder's path, `http(s)://host/path`, or `memory://` (a new,
            empty one each time).
        settings: how it is reached.
        create: make the folder when it is missing.

    Raises:
        UsageError: the URL is none of these.
        StoreError: the folder is missing, or a setting does not fit the store.
    """
    settings = settings or StoreSettings()
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in {"s3", "s3a"}:
        return _open_s3(url, parts.netloc, parts.path.strip("/"), settings)
    if scheme in {"http", "https"}:
        return _open_http(url, settings)
    if scheme == "memory":
        return Store(MemoryStore(), url, settings, lists_in_order=True)
    if scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise UsageError(f"{url}: a file URL has three slashes, as in file:///{parts.netloc}{parts.path}")
        return _open_folder(url, Path(unquote(parts.path)), settings, create)
    if "://" in url:
        raise UsageError(f"{url}: a store is s3://bucket, file:///folder, https://host/path or a folder's path")
    if not url:
        raise UsageError("the store's URL is empty: give s3://bucket, https://host/path or a folder's path")
    return _open_folder(url, Path(url).expanduser(), settings, create)


def _open_s3(url: str, bucket: str, prefix: str, settings: StoreSettings) -> Store:
    if not bucket:
        raise UsageError(f"{url}: name the bucket, as in s3://aft-vbi-pds")
    unsigned = bucket in PUBLIC_BUCKETS if settings.unsigned is None else settings.unsigned
    region = settings.region or PUBLIC_BUCKETS.get(bucket) or os.environ.get("AWS_REGION")
    options: dict[str, Any] = {"region": region or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    if unsigned:
        options["skip_signature"] = True
    if settings.endpoint:
        if urlsplit(settings.endpoint).scheme not in {"http", "https"}:
            raise UsageError(f"the endpoint {settings.endpoint!r} is no http or https URL")
        options["endpoint"] = settings.endpoint.rstrip("/")
    try:
        inner = S3Store(
            bucket, prefix=prefix or None, client_options=_client(settings), retry_config=_NO_RETRIES, **options
        )
    except Exception as error:
        raise _translated(error, url, "") from error
    return Store(inner, url, settings, lists_in_order=True)


def _open_http(url: str, settings: StoreSettings) -> Store:
    if not urlsplit(url).hostname:
        raise UsageError(f"{url}: name the host, as in https://host/path")
    try:
        inner = HTTPStore(url.rstrip("/"), client_options=_client(settings), retry_config=_NO_RETRIES)
    except Exception as error:
        raise _translated(error, url, "") from error
    return Store(inner, url, settings, can_list=False)


def _open_folder(url: str, folder: Path, settings: StoreSettings, create: bool) -> Store:
    if not create and not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise StoreError(f"{url}: the folder {what}")
    try:
        inner = LocalStore(folder.absolute(), mkdir=create)
    except Exception as error:
        raise _translated(error, url, "") from error
    return Store(inner, url, settings)


_NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}


def _client(settings: StoreSettings) -> Any:
    return {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=settings.connect_timeout_s),
        "timeout": timedelta(seconds=settings.timeout_s),
        # One connection per request in flight is kept; a server that closes idle ones must not cost a retry.
        "pool_idle_timeout": timedelta(seconds=20),
        "user_agent": "bintally",
    }


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(
        name=meta["path"], num_bytes=meta["size"], modified=meta["last_modified"], etag=meta.get("e_tag")
    )


# obstore has one class, GenericError, for most of what can go wrong; the kind stands in its text only.
_STATUS = re.compile(r"status code: (\d{3})")
_CONNECT = re.compile(r"kind: Connect\b|\bError\(\s*Connect\b|ConnectError")
_BROKEN = re.compile(r"kind: (?:Timeout|Interrupted|Request)\b|IncompleteBody|IncompleteMessage|ConnectionReset")
_S3_CODE = re.compile(r"<Code>(\w+)</Code>")
# What is wrong with credentials and yet answered with 400 (Amazon's first two, rclone's third for unsigned requests).
_REFUSALS = {"ExpiredToken", "InvalidToken", "UnsupportedAlgorithm", "AuthorizationHeaderMalformed"}
_OS_CODE = re.compile(r"\(os error (\d+)\)|\bcode: (\d+)")
_NO_CREDENTIALS = re.compile(r"169\.254\.169\.254|latest/(?:api/token|meta-data)|AWS_CONTAINER_CREDENTIALS")


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found.group(1)) if found else 0


def _is_transient(error: Exception) -> bool:
    if not isinstance(error, refusals.GenericError):
        return isinstance(error, TimeoutError | ConnectionError)
    text = str(error)
    if _NO_CREDENTIALS.search(text):
        return False
    status = _status(text)
    if status:
        return (status >= 500 and status not in {501, 505}) or status in {408, 429}
    return bool(_CONNECT.search(text) or _BROKEN.search(text))


def _translated(error: Exception, url: str, name: str, *, tries: int = 1) -> BintallyError:
    """One of bintally's errors for anything that obstore raises, with one line that says what and where."""
    if isinstance(error, BintallyError):
        return error
    text = str(error)
    where = f"{url.rstrip('/')}/{name}" if name else url
    status = _status(text)
    said = _S3_CODE.search(text)
    code = said.group(1) if said else ""
    answer = " ".join(str(one) for one in (status, code) if one)
    again = f" ({tries} tries)" if tries > 1 else ""
    if _NO_CREDENTIALS.search(text):
        return AccessDeniedError(
            f"{url}: no credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ask without any by "
            "--set store.unsigned=true"
        )
    denied = isinstance(error, refusals.PermissionDeniedError | refusals.UnauthenticatedError)
    if denied or status in {401, 403} or code in _REFUSALS:
        why = f" ({answer})" if answer else ""
        return AccessDeniedError(f"{where}: access denied{why}: check the credentials, or whether it is public")
    if isinstance(error, PermissionError):
        return AccessDeniedError(f"{where}: access denied")
    if isinstance(error, FileNotFoundError) or status == 404:
        return ObjectNotFoundError(f"{where}: there is no such {'object' if name else 'bucket or folder'}")
    if isinstance(error, ValueError):
        return StoreError(f"{where}: {_first_line(text)}")
    if isinstance(error, refusals.NotSupportedError):
        return StoreError(f"{url} does not allow this: {_first_line(text)}")
    os_code = 0 if status else next((int(one or two) for one, two in _OS_CODE.findall(text)), 0)
    if os_code in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(f"no room left on the disk for {where}: free some space and run this again")
    if os_code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return AccessDeniedError(f"{where}: access denied: {os.strerror(os_code)}")
    if not status and _CONNECT.search(text):
        return StoreUnreachableError(
            f"{url}: {_host(text, url)} cannot be reached{again}: check the address and the net"
        )
    if status:
        return StoreError(f"{where}: the store answered {answer}{again}")
    if _BROKEN.search(text):
        what = "no whole answer in time" if "kind: Timeout" in text else "the connection broke off"
        return StoreError(f"{where}: {what}{again}")
    return StoreError(f"{where}: {_first_line(text)}")


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()[:300]


def _host(text: str, url: str) -> str:
    found = re.search(r"https?://[^/\s]+", text)
    return found.group(0) if found else url
