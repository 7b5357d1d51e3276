"""What people run instead: FastAPI around torch, LitServe around ONNX Runtime. As a program, one of them on a port.

Both read photos by `bintally.pixels` like ours, which is quicker than what such servers usually do. Like them, they do
nothing else: no limits, no checks, no figures.
"""

import sys
from pathlib import Path
from typing import Any

from bintally.pixels import read_input


def fastapi_torch(folder: Path, port: int) -> None:
    """The usual server: an endpoint in FastAPI's thread pool, torch eager in float32 on all cores."""
    import torch
    import uvicorn
    from fastapi import FastAPI, Request
    from starlette.concurrency import run_in_threadpool

    from bintally.learn.model import load_run_model

    model, card = load_run_model(folder)
    app = FastAPI()

    def count(data: bytes) -> dict[str, Any]:
        x = torch.from_numpy(read_input(data, card.pixels)[None])
        with torch.inference_mode():
            probabilities = model(x).softmax(1)[0]
        return {"count": int(probabilities.argmax()), "probabilities": probabilities.tolist()}

    @app.post("/invocations")
    async def invocations(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(count, await request.body())

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def litserve_onnx(folder: Path, port: int) -> None:
    """LitServe with batches of up to 8, ONNX Runtime in float32 on all cores."""
    from benchmarks import _litserve

    _litserve.run(folder, port)


if __name__ == "__main__":
    {"fastapi": fastapi_torch, "litserve": litserve_onnx}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
