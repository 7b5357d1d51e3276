"""LitServe around ONNX Runtime in float32. A module of its own, for LitServe starts its workers by importing it."""

from pathlib import Path
from typing import Annotated, Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Body
from numpy.typing import NDArray

from bintally.card import read_card
from bintally.pixels import read_input

Jpeg = Annotated[bytes, Body(media_type="image/jpeg")]


class Api(litserve.LitAPI):
    """Batches of up to 8, ONNX Runtime on all cores."""

    def __init__(self, folder: Path) -> None:
        super().__init__(max_batch_size=8, batch_timeout=0.005, api_path="/invocations", enable_async=False)
        self._folder = folder

    def setup(self, device: str) -> None:
        """In the worker, once."""
        self._session = onnxruntime.InferenceSession(self._folder / "model.onnx", providers=["CPUExecutionProvider"])
        self._pixels = read_card(self._folder).pixels

    def decode_request(self, request: Jpeg) -> NDArray[np.float32]:
        """A photo's bytes to the network's input."""
        return read_input(request, self._pixels)

    def batch(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Several inputs as one."""
        return np.stack(inputs)

    def predict(self, x: NDArray[np.float32], **_: Any) -> NDArray[np.float32]:
        """Logits."""
        logits: NDArray[np.float32] = self._session.run(["logits"], {"photos": x})[0]
        return logits

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """One by one again."""
        return list(output)

    def encode_response(self, output: NDArray[np.float32], **_: Any) -> dict[str, Any]:
        """The answer."""
        powers = np.exp(output - output.max())
        return {"count": int(output.argmax()), "probabilities": (powers / powers.sum()).tolist()}


def run(folder: Path, port: int) -> None:
    """Serves until it is stopped."""
    litserve.LitServer(Api(folder), accelerator="cpu").run(
        host="127.0.0.1", port=port, log_level="warning", generate_client_file=False, num_api_servers=1
    )
