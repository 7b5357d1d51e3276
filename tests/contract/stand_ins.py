"""S3 servers that tests start, and buckets in them."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator

import boto3

from bintally.cloud.local.objects import free_port

__all__ = ["free_port", "make_bucket", "running", "wait_for"]


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def make_bucket(url: str, bucket: str, *, public: bool) -> None:
    # Not what an earlier test left in boto3's default session: rclone knows this key alone.
    key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **key)
    client.create_bucket(Bucket=bucket)
    if public:
        anyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:*"}
        rule = anyone | {"Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [rule]}))
