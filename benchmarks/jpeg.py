"""Reading a JPEG for the network: bytes to the 224 × 224 square, ours against Pillow's draft mode and others.

Photos as taken (315 to 1,100 pixels wide) lie in the folder that BINTALLY_ORIGINALS names, laid out like the public
dataset. With BINTALLY_MODEL, a model folder, it also says what each way of reading does to the answers, against full
decoding. Processor time, one thread: others on the machine do not count.
"""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from benchmarks import Row, Table
from bintally import pixels

NUM_PHOTOS = 200
NUM_ANSWERS = 400
ROUNDS = 5
SIZE = 224

Square = NDArray[np.uint8]
Reader = Callable[[bytes], Square]


def ours(data: bytes) -> Square:
    """What training and serving use."""
    return pixels.read_square(data, SIZE)


def full_decode(data: bytes) -> Square:
    """No scaling while decoding: the reference for the answers."""
    return pixels.to_square(pixels.decode(data), SIZE)


def pillow_full(data: bytes) -> Square:
    """Pillow, no scaling while decoding."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def pillow_draft(data: bytes) -> Square:
    """Pillow, decoding at a half, quarter or eighth where that stays above the size."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (SIZE, SIZE))
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def eighths(data: bytes) -> Square:
    """The decoder of ours at any number of eighths of the size."""
    return pixels.to_square(simplejpeg.decode_jpeg(data, "RGB", min_height=SIZE, min_width=SIZE), SIZE)


def fast_dct(data: bytes) -> Square:
    """The decoder of ours with its less exact transforms."""
    rgb = simplejpeg.decode_jpeg(data, "RGB", fastdct=True, fastupsample=True)
    return pixels.to_square(rgb, SIZE)


def main() -> Table:
    """Times every way of reading in turn, `ROUNDS` times, and compares the best rounds."""
    folder = os.environ.get("BINTALLY_ORIGINALS")
    if not folder:
        raise SystemExit("this benchmark needs BINTALLY_ORIGINALS, a folder of full-size photos")
    paths = sorted((Path(folder) / "bin-images").glob("*.jpg"))[:NUM_ANSWERS]
    photos = [path.read_bytes() for path in paths]
    sides: dict[str, tuple[Reader, float | None]] = {
        "Pillow, full decode": (pillow_full, 1.0),
        "Pillow, draft mode": (pillow_draft, 1.0),
        "simplejpeg, full decode": (full_decode, None),
        "simplejpeg, eighths": (eighths, None),
        "simplejpeg, full decode, fast transforms": (fast_dct, None),
    }
    best = {name: float("inf") for name in ("ours", *sides)}
    for _ in range(ROUNDS):
        for name, reader in {"ours": ours, **{name: side[0] for name, side in sides.items()}}.items():
            start = time.process_time()
            for photo in photos[:NUM_PHOTOS]:
                reader(photo)
            best[name] = min(best[name], (time.process_time() - start) / NUM_PHOTOS)
    rows = [
        Row(
            what=f"photos a second against {name}",
            ours=f"{1 / best['ours']:,.0f}/s",
            alternative=f"{1 / best[name]:,.0f}/s",
            ratio=best[name] / best["ours"],
            limit=limit,
        )
        for name, (_, limit) in sides.items()
    ]
    model = os.environ.get("BINTALLY_MODEL")
    if model:
        rows += answers(Path(model), photos)
    return Table(title=f"JPEG of {len(photos)} photos as taken → {SIZE} × {SIZE}", rows=rows)


def answers(model: Path, photos: list[bytes]) -> list[Row]:
    """Likeliest counts that differ from those of full decoding: ours against each other way of scaling."""
    from bintally.serve.engine import Engine

    engine = Engine.load(model)
    spec = engine.card.pixels
    if spec.size != SIZE or spec.fit != "squash":
        raise SystemExit(f"this benchmark needs a model of {SIZE} pixels, squashed, not {spec.size}, {spec.fit}")
    whole = engine.logits(np.stack([full_decode(photo) for photo in photos])).argmax(axis=1)

    def changed(reader: Reader) -> float:
        squares = np.stack([reader(photo) for photo in photos])
        return float((engine.logits(squares).argmax(axis=1) != whole).mean())

    mine = changed(ours)
    others = {"Pillow's draft mode": pillow_draft, "eighths": eighths, "fast transforms": fast_dct}
    return [
        Row(
            what=f"answers that differ from full decoding's, against {name}",
            ours=f"{mine:.1%}",
            alternative=f"{other:.1%}",
            ratio=mine / other if other else float(mine > 0),
        )
        for name, other in ((name, changed(reader)) for name, reader in others.items())
    ]
