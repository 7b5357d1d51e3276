# ruff: noqa: T201
"""A training program that does what its hyperparameters say, in no time: a stand-in for `bintally train`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["BINTALLY_OPT_ML"])


def config(name: str) -> dict:
    return json.loads((ROOT / "input" / "config" / f"{name}.json").read_text())


def main() -> int:
    hps, resources = config("hyperparameters"), config("resourceconfig")
    assert all(isinstance(value, str) for value in hps.values())
    hps |= json.loads(hps.get("as", "{}"))  # several at once, where a grid varies one
    host = resources["current_host"]
    kept = ROOT / "checkpoints" / f"epoch-{host}"
    stopped: list[int] = []
    if hps.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    files = sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "input" / "data").rglob("*") if path.is_file()
    )
    seen = {
        "files": files,
        "hps": hps,
        "resources": resources,
        "channels": config("inputdataconfig"),
        "environ": dict(os.environ),
        "cwd": str(Path.cwd()),
    }
    (ROOT / "output" / "data" / f"seen-{host}.json").write_text(json.dumps(seen))
    first = int(kept.read_text()) if kept.exists() else 0
    print(f"begins at epoch {first}")
    if hps.get("fail_on") == host:
        (ROOT / "output" / "failure").write_text(hps["reason"])
        print("about to fail", file=sys.stderr)
        return 3
    for epoch in range(first, int(hps.get("epochs", "1"))):
        until = time.monotonic() + float(hps.get("seconds", "0"))
        while time.monotonic() < until and not stopped:
            time.sleep(0.01)
        score = float(hps.get("score", "0.5")) * (epoch + 1) - (float(hps.get("x", "0")) - 0.3) ** 2
        print(f"metrics: train:epoch={epoch}; validation:accuracy={score!r};")
        kept.write_text(str(epoch + 1))
        if stopped:
            print("stopped; the checkpoint is written")
            return 0
    (ROOT / "model" / f"weights-{host}.bin").write_bytes(b"w" * 1000)
    (ROOT / "model" / "shared.txt").write_text(host)
    return 0


if __name__ == "__main__":
    sys.exit(main())
