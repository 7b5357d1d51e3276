"""`bintally push` and what `bintally train` takes, as a person or a script calls them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bintally.cli.app import app
from bintally.errors import ManifestError, StoreUnreachableError, UsageError
from tests.data.pushed_split import small_split


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_a_push_says_what_it_did(tmp_path: Path) -> None:
    small_split(tmp_path)
    first = json.loads(call("push", tmp_path, tmp_path / "store", "--json").stdout)
    assert (first["photos"], first["sent"], first["same"], first["stale"]) == (11, 12, 0, 0)
    assert (tmp_path / "store/train/4/00004.jpg").is_file()
    (tmp_path / "store/train/4/old.jpg").write_bytes(b"x")
    again = call("push", tmp_path / "split.parquet", tmp_path / "store")
    assert "0 objects sent (0.0 MB), 12 there already" in again.stdout
    assert "1 objects in the parts' folders are no part of this split, as train/4/old.jpg: --prune" in again.stderr
    pruned = call("push", tmp_path / "split.parquet", tmp_path / "store", "--prune")
    assert "1 removed" in pruned.stdout
    assert not (tmp_path / "store/train/4/old.jpg").exists()


def test_what_cannot_be_pushed(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"neither split\.parquet nor class folders"):
        call("push", tmp_path, tmp_path / "store")
    small_split(tmp_path)
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        call("push", tmp_path, "s3://bucket", "--endpoint", "http://127.0.0.1:9", "--set", "store.unsigned=true")


def test_train_wants_to_know_what_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINTALLY_OPT_ML", str(tmp_path))
    with pytest.raises(UsageError, match="name what to train on and where to"):
        call("train")
    with pytest.raises(UsageError, match="--to runs/NAME"):
        call("train", tmp_path)
    monkeypatch.setenv("SM_HPS", "{}")
    for words in (("--to", tmp_path / "x"), ("--epochs", "3"), ("--recipe", "demo")):
        with pytest.raises(UsageError, match="takes everything from its hyperparameters"):
            call("train", *words)


class _Hanging(BaseHTTPRequestHandler):
    """An S3 that lists nothing, takes a few photos and then never answers."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_GET(self) -> None:
        body = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        import hashlib

        data = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken += 1
        if self.taken > 3:
            time.sleep(60)
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_ctrl_c_ends_a_push_cleanly(tmp_path: Path) -> None:
    small_split(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hanging)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words = ["push", str(tmp_path), "s3://bucket/p", "--endpoint", f"http://127.0.0.1:{server.server_port}"]
    push = subprocess.Popen(
        [sys.executable, "-m", "bintally", *words],
        env=os.environ | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    try:
        until = time.monotonic() + 60
        while _Hanging.taken < 4:
            assert push.poll() is None, push.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        push.send_signal(signal.SIGINT)
        _, told = push.communicate(timeout=120)
    finally:
        push.kill()
        server.shutdown()
        server.server_close()
    assert push.returncode == 130
    assert told.splitlines()[-1].startswith("error: stopped; what was finished is kept")
    assert "Traceback" not in told
