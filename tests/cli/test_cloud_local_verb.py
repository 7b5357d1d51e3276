import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bintally", "cloud", "local", "--to", str(folder), "--port", "0"]
    command += ["--set", "local.s3_port=0", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(running: subprocess.Popen[str]) -> tuple[int, str]:
    running.send_signal(signal.SIGTERM)
    try:
        _, said = running.communicate(timeout=120)
    finally:
        running.kill()
    return running.returncode, said


def test_it_says_how_it_is_found(tmp_path: Path) -> None:
    running = start(tmp_path / "cloud", "--json", "--set", "local.bucket=mine")
    try:
        assert running.stdout is not None
        environ: dict[str, Any] = json.loads(running.stdout.readline())
        with urllib.request.urlopen(environ["AWS_ENDPOINT_URL_SAGEMAKER"], timeout=30) as answer:
            assert json.load(answer)["status"] == "ready"
        s3 = boto3.Session().client(
            "s3",
            endpoint_url=environ["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            region_name=environ["AWS_REGION"],
        )
        assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == ["mine"]
        lines = (tmp_path / "cloud" / "environment").read_text().splitlines()
        assert f"export AWS_ENDPOINT_URL_SAGEMAKER={environ['AWS_ENDPOINT_URL_SAGEMAKER']}" in lines
        second = start(tmp_path / "cloud")
        _, said = second.communicate(timeout=120)
        assert second.returncode == 2
        assert said.startswith("error: another `bintally cloud local` runs in")
    finally:
        code, said = end(running)
    assert code in {0, -signal.SIGTERM}, said
    assert "the service is ready at http://127.0.0.1:" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("setting", ["local.nothing=1", "other.port=1", "local.quotas=['x']"])
def test_settings_are_checked(tmp_path: Path, setting: str) -> None:
    running = start(tmp_path / "cloud", "--set", setting)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 2
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
