"""Model folders made in milliseconds, without torch: a small network with random weights; and photos for it."""

import io
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as op
from PIL import Image

from bintally.card import Calibration, ModelCard, write_card
from bintally.counts import CountRange
from bintally.files import sha256_of
from bintally.pixels import PixelSpec

SIZE = 32


def make_model(
    folder: Path,
    *,
    size: int = SIZE,
    counts: CountRange | None = None,
    precision: str = "float32",
    seed: int = 0,
    open_mean: float | None = None,
) -> ModelCard:
    """Writes openvino.xml, openvino.bin and model.json, as `bintally export` does (but for model.onnx)."""
    counts = counts or CountRange(lowest=0, highest=5)
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    photos = op.parameter([-1, 3, size, size], np.float32, name="photos")
    features = op.relu(op.convolution(photos, weights(16, 3, 4, 4), [4, 4], [0, 0], [0, 0], [1, 1]))
    head = weights(counts.num_classes, 16)
    maps = op.convolution(features, head[:, :, None, None], [1, 1], [0, 0], [0, 0], [1, 1])
    pooled = op.reduce_mean(features, np.array([2, 3]), keep_dims=False)
    logits = op.add(op.matmul(pooled, head, transpose_a=False, transpose_b=True), weights(counts.num_classes))
    model = openvino.Model([logits, maps], [photos], "tiny")
    for place, name in enumerate(("logits", "maps")):
        model.outputs[place].set_names({name})
    model.inputs[0].set_names({"photos"})
    openvino.save_model(model, folder / "openvino.xml", compress_to_fp16=False)
    card = ModelCard(
        kind="exported",
        architecture="tiny",
        pixels=PixelSpec(size=size),
        counts=counts,
        open_mean=open_mean,
        precision=precision,
        calibration=Calibration(temperature=1.5, num_photos=10),
        files={name: sha256_of(folder / name) for name in ("openvino.xml", "openvino.bin")},
    )
    write_card(folder, card)
    return card


def make_photo(seed: int = 0, width: int = 60, height: int = 40, kind: str = "JPEG") -> bytes:
    """A photo of coloured noise in large blocks."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(out, kind, quality=92)
    return out.getvalue()
