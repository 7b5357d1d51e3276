# ruff: noqa: T201
"""A serving program that answers what its model folder says: a stand-in for `bintally serve`."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(os.environ["BINTALLY_OPT_ML"])
MODEL = json.loads((ROOT / "model" / "model.json").read_text())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/execution-parameters" and "transforms" in MODEL:
            self.reply(200, {"MaxConcurrentTransforms": MODEL["transforms"]})
            return
        status = 200 if self.path == "/ping" and not MODEL.get("sick") else 404
        self.reply(status, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"die":
            os._exit(9)
        if body == b"slow":
            time.sleep(MODEL.get("slow_s", 5))
        if body == b"pid":
            self.reply(200, os.getpid())
            return
        if body.startswith(b"bad"):
            self.reply(422, {"error": "no photo"})
            return
        kind = self.headers.get("Content-Type")
        self.reply(200, {"name": MODEL["name"], "bytes": len(body), "type": kind, "env": os.environ.get("FLAVOUR")})

    def log_message(self, *_: object) -> None:
        return


if MODEL.get("broken"):
    print("the model is broken", file=sys.stderr)
    sys.exit(1)
print("serving", os.environ["SAGEMAKER_BIND_TO_PORT"], flush=True)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
