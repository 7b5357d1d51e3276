"""Models and outputs on their way between this machine and the bucket: archives, as the service reads and writes them."""

import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bintally import files
from bintally.card import read_card
from bintally.cloud.jobs import State
from bintally.cloud.service import Service
from bintally.errors import CloudError, ModelError, UsageError
from bintally.progress import Progress, Silent

MODEL_ARCHIVE = "model.tar.gz"
OUTPUT_ARCHIVE = "output.tar.gz"


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`.

    Raises:
        UsageError: it is no such address.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"{uri!r} is no s3://bucket/key")
    return parts.netloc, parts.path.lstrip("/")


def check_model(folder: Path) -> None:
    """Raises ModelError when a folder is no exported model, or not what its card says."""
    if read_card(folder).kind != "exported":
        raise ModelError(f"{folder} is a run, not a model: make one with `bintally export {folder} --to model`")


def pack_model(folder: Path, to: Path) -> None:
    """Writes a model folder as the archive that a hosting container is given. The same folder gives the same bytes.

    Raises:
        ModelError: the folder is no exported model, or not what its card says.
    """
    check_model(folder)
    with files.replacing(to) as part, tarfile.open(part, "w:gz", compresslevel=1) as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                archive.add(path, arcname=path.name, filter=_plain)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry that says nothing of this machine or this hour."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode, info.mtime = 0o644, 0
    return info


def upload_model(service: Service, folder: Path, uri: str, progress: Progress | None = None) -> None:
    """Packs a model folder and puts it at `s3://…/model.tar.gz`.

    Raises:
        ModelError: the folder is no exported model.
        CloudError: and its kinds: the bucket does not take it.
    """
    progress = progress or Silent()
    bucket, key = split_uri(uri)
    with tempfile.TemporaryDirectory(prefix="bintally-") as scratch:
        archive = Path(scratch) / MODEL_ARCHIVE
        pack_model(folder, archive)
        progress.begin(f"{folder} to {uri} (bytes)", archive.stat().st_size)
        try:
            with service.translated(f"PutObject {uri}"):
                service.client("s3").upload_file(str(archive), bucket, key, Callback=progress.advance)
        finally:
            progress.end()


def take_output(service: Service, state: State, to: Path, progress: Progress | None = None) -> list[Path]:
    """Brings what a training wrote: its model to `to/model`, its other files to `to/output`.

    Args:
        service: where the training ran.
        state: how it ended.
        to: the folder here; `model` and `output` in it are replaced.
        progress: told of the bytes.

    Returns:
        The folders that were written. A training that was stopped early may have left no model.

    Raises:
        CloudError: it left nothing at all, or the bucket does not give it.
    """
    made: list[Path] = []
    for uri, folder in output_uris(state.told).items():
        if _fetch_archive(service, uri, to / folder, progress or Silent()):
            made.append(to / folder)
    if not made:
        raise CloudError(f"training {state.name} left neither a model nor an output ({state.status})")
    return made


def output_uris(told: Mapping[str, Any]) -> dict[str, str]:
    """Where the service puts what a training job writes: address → our name for it."""
    name, path = told["TrainingJobName"], told["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    model = told.get("ModelArtifacts", {}).get("S3ModelArtifacts") or f"{path}/{name}/output/{MODEL_ARCHIVE}"
    return {model: "model", f"{path}/{name}/output/{OUTPUT_ARCHIVE}": "output"}


def _fetch_archive(service: Service, uri: str, to: Path, progress: Progress) -> bool:
    bucket, key = split_uri(uri)
    head = service.find("HeadObject", service="s3", Bucket=bucket, Key=key)
    if head is None:
        return False
    with tempfile.TemporaryDirectory(prefix="bintally-") as scratch:
        archive = Path(scratch) / "archive.tar.gz"
        progress.begin(f"{uri} to {to} (bytes)", int(head["ContentLength"]))
        try:
            with service.translated(f"GetObject {uri}"):
                service.client("s3").download_file(bucket, key, str(archive), Callback=progress.advance)
        finally:
            progress.end()
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            with files.replacing_folder(to) as part, tarfile.open(archive) as opened:
                opened.extractall(part, filter="data")  # refuses paths and links that lead out of the folder
        except tarfile.TarError as error:
            raise CloudError(f"{uri} is no archive that can be unpacked: {error}") from error
    return True


def count_objects(service: Service, uri: str, most: int = 1_000_000) -> int:
    """How many objects lie below `s3://bucket/prefix`.

    Raises:
        CloudError: and its kinds: the bucket does not say.
    """
    bucket, prefix = split_uri(uri)
    num, token = 0, ""
    while num < most:
        more = {"ContinuationToken": token} if token else {}
        answer = service.call("ListObjectsV2", service="s3", Bucket=bucket, Prefix=prefix, **more)
        num += len(answer.get("Contents", ()))
        token = answer.get("NextContinuationToken", "")
        if not token:
            break
    return num
