"""What goes to and comes from the bucket: channels, checkpoints, archives."""

import contextlib
import os
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bintally import files
from bintally.errors import MissingExtraError

try:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ModuleNotFoundError as missing:
    raise MissingExtraError(missing.name or "boto3", "cloud") from missing

THREADS = 8
_TRIES = 3
_WHOLE = TransferConfig(multipart_threshold=4 << 30, use_threads=False)


class TransferError(Exception):
    """Something could not be copied; the message is what a job's FailureReason says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How the bucket is reached.

    Attributes:
        endpoint: URL of the S3 service; Amazon's own when empty.
        region: of the bucket.
        access_key: with `secret_key`, the credentials; from the usual chain when empty.
        secret_key: see there.
    """

    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its key, its name below the prefix that was asked for, its size in bytes."""

    key: str
    name: str
    num_bytes: int


class Bucket:
    """S3, as far as jobs need it. Every method raises TransferError and no other. Safe to use from any thread."""

    def __init__(self, access: Access) -> None:
        keys = (
            {"aws_access_key_id": access.access_key, "aws_secret_access_key": access.secret_key}
            if access.access_key
            else {}
        )
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=access.endpoint or None,
            region_name=access.region,
            config=Config(
                max_pool_connections=2 * THREADS,
                retries={"mode": "standard", "max_attempts": 4},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"} if access.endpoint else {},
            ),
            **keys,
        )

    def list(self, uri: str) -> list[Found]:
        """Every object whose key begins with a URI's, in the order of their keys; marks of empty folders left out.

        An object of exactly that key is named by its last part; one in the folder of that name by what comes after
        it; another by the last part of the prefix and what comes after it.
        """
        bucket, prefix = split_uri(uri)
        base = prefix if prefix.endswith("/") or not prefix else prefix.rpartition("/")[0] + "/"
        found = []
        with _told(f"No S3 objects could be listed under S3 URL {uri!r}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for one in page.get("Contents", []):
                    key = one["Key"]
                    if key.endswith("/"):
                        continue
                    inside = key.startswith(f"{prefix}/")
                    name = key.removeprefix(f"{prefix}/" if inside else base.removeprefix("/"))
                    found.append(Found(key, name, one["Size"]))
        return found

    def read(self, uri: str) -> bytes:
        """The bytes of one object."""
        bucket, key = split_uri(uri)
        with _told(f"Data download failed: {uri}"):
            body: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
            return body

    def write(self, uri: str, data: bytes) -> None:
        """Writes one object."""
        bucket, key = split_uri(uri)
        with _told(f"Data upload failed: {uri}"):
            self._client.put_object(Bucket=bucket, Key=key, Body=data)

    def download(
        self, bucket: str, wanted: Sequence[tuple[str, str]], folder: Path, stop: Callable[[], bool] = bool
    ) -> None:
        """Copies objects into a folder.

        Args:
            bucket: their bucket's name.
            wanted: key and name below the folder of each.
            folder: made when it is missing.
            stop: asked before each; once it says so, the rest is left.
        """
        folder.mkdir(parents=True, exist_ok=True)

        def one(key_and_name: tuple[str, str]) -> None:
            key, name = key_and_name
            if stop():
                return
            with _told(f"Data download failed: s3://{bucket}/{key}"):
                self._fetch(bucket, key, _inside(folder, name))

        _each(one, wanted)

    def _fetch(self, bucket: str, key: str, path: Path) -> None:
        for left in reversed(range(_TRIES)):
            try:
                body = self._client.get_object(Bucket=bucket, Key=key)["Body"]
                with files.replacing(path, durable=False) as part, part.open("wb") as file:
                    shutil.copyfileobj(body, file, 1 << 20)
                return
            except (BotoCoreError, OSError):  # a body that broke off; the client's own retries end at the headers
                if not left:
                    raise
                time.sleep(0.2)

    def upload(self, path: Path, uri: str) -> None:
        """Copies one file to an object."""
        bucket, key = split_uri(uri)
        with _told(f"Data upload failed: {uri}"):
            self._client.upload_file(str(path), bucket, key, Config=_WHOLE)

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Copies every file in a folder and below it."""
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        _each(lambda name: self.upload(folder / name, f"{uri.rstrip('/')}/{name}"), names)

    def upload_archive(self, folders: Sequence[Path], uri: str, scratch: Path) -> None:
        """Writes what folders hold as one .tar.gz object; of files with the same name the first folder's counts."""
        archive = scratch / "archive.tar.gz"
        with _told(f"Data upload failed: {uri}"), tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            known: set[str] = set()
            for folder in folders:
                for path in sorted(folder.rglob("*")):
                    name = path.relative_to(folder).as_posix()
                    if name not in known and (path.is_file() or path.is_dir()):
                        known.add(name)
                        tar.add(path, arcname=name, recursive=False)
        self.upload(archive, uri)
        archive.unlink()

    def download_archive(self, uri: str, folder: Path) -> None:
        """Unpacks a .tar.gz object into a folder. Nothing in it is written outside, whatever it says."""
        bucket, key = split_uri(uri)
        folder.mkdir(parents=True, exist_ok=True)
        archive = folder.parent / f".{folder.name}.tar.gz"
        with _told(f"Could not find or read model data at {uri}"):
            self._fetch(bucket, key, archive)
        try:
            with tarfile.open(archive, "r:gz") as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise TransferError(f"Model data at {uri} is no .tar.gz that can be unpacked: {error}") from error
        finally:
            archive.unlink(missing_ok=True)


class Mirror:
    """A folder that is copied to the bucket while it changes. What is removed here stays there, as with the service."""

    def __init__(self, bucket: Bucket, folder: Path, uri: str) -> None:
        self._bucket, self._folder, self._uri = bucket, folder, uri.rstrip("/")
        self._sent: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def restore(self) -> int:
        """Copies the bucket's files into the folder. Returns how many that were."""
        found = self._bucket.list(f"{self._uri}/")
        self._bucket.download(split_uri(self._uri)[0], [(one.key, one.name) for one in found], self._folder)
        for path, stat in self._files():
            self._sent[path.relative_to(self._folder).as_posix()] = (stat.st_mtime_ns, stat.st_size)
        return len(found)

    def send(self, *, settled_s: float = 0.0) -> int:
        """Copies what is new or changed. Returns how many files that were.

        Args:
            settled_s: files that changed within this time are left for the next time: they may be half-written.
        """
        num = 0
        with self._lock:
            for path, stat in self._files():
                name, mark = path.relative_to(self._folder).as_posix(), (stat.st_mtime_ns, stat.st_size)
                if self._sent.get(name) == mark or time.time() - stat.st_mtime < settled_s:
                    continue
                with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
                    self._bucket.upload(path, f"{self._uri}/{name}")
                    self._sent[name] = mark
                    num += 1
        return num

    def _files(self) -> Iterable[tuple[Path, os.stat_result]]:
        for path in sorted(self._folder.rglob("*")):
            if path.name.endswith(files.PART):
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.is_file():
                    yield path, stat


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`.

    Raises:
        TransferError: it is no such URI.
    """
    parts = urlsplit(uri, allow_fragments=False)
    if parts.scheme != "s3" or not parts.netloc:
        raise TransferError(f"ClientError: {uri!r} is no S3 URI")
    return parts.netloc, uri.removeprefix("s3://").partition("/")[2]


def _inside(folder: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise TransferError(f"ClientError: the object's name {name!r} leads out of its folder")
    return folder.joinpath(*parts)


def _each(one: Callable[[Any], None], items: Sequence[Any]) -> None:
    if len(items) < 2:
        for item in items:
            one(item)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for _ in pool.map(one, items):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _told(what: str) -> Any:
    try:
        yield
    except FileNotFoundError:
        raise
    except (ClientError, BotoCoreError, OSError, boto3.exceptions.Boto3Error) as error:
        raise TransferError(f"ClientError: {what}: {' '.join(str(error).split())}") from error
