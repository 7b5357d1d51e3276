"""Memory of the server over many requests: flat, or not.

BINTALLY_BENCH_REQUESTS (100,000) requests with 8 clients to a tiny model, so that they take minutes: what grows would be
the server's, for every request goes the whole way (body, decoding, engine, answer, log, figures). Photos of the folder
that BINTALLY_ABID names (224 pixels), and among them one in twenty that cannot be read.
"""

import os
import tempfile
from pathlib import Path

from benchmarks import Row, Table
from benchmarks._load import load
from benchmarks._servers import CLIENTS, ours, tell
from tests.model_folder import make_model

REQUESTS = int(os.environ.get("BINTALLY_BENCH_REQUESTS", "100000"))
PIECES = 10


def main() -> Table:
    """The resident memory after each tenth."""
    abid = os.environ.get("BINTALLY_ABID")
    if not abid:
        raise SystemExit("this benchmark needs BINTALLY_ABID, a folder of photos")
    photos = sorted((Path(abid) / "bin-images").glob("*.jpg"))[:190]
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder) / "model")
        for number, photo in enumerate(photos[:10]):
            torn = Path(folder) / f"{number}.jpg"
            torn.write_bytes(photo.read_bytes()[: 200 * (number + 1)])
            photos.append(torn)
        with ours(Path(folder) / "model") as server:
            for piece in range(PIECES):
                shots = load(server.port, photos, clients=CLIENTS, number=REQUESTS // PIECES)
                if {shot.status for shot in shots} != {200, 422}:
                    raise RuntimeError(f"not all were answered: { ({shot.status for shot in shots}) }")
                seen.append(server.resident_mb)
                tell(f"{(piece + 1) * REQUESTS // PIECES:,} requests: {seen[-1]:.1f} MB")
    told = ", ".join(f"{one:.1f}" for one in seen)
    return Table(
        title=f"Memory over {REQUESTS:,} requests, MB after every tenth: {told}",
        rows=[
            Row(
                what=f"after {REQUESTS:,} requests : after a fifth of them",
                ours=f"{seen[-1]:.1f} MB",
                alternative=f"{seen[1]:.1f} MB",
                ratio=seen[-1] / seen[1],
                limit=1.02,
                at_most=True,
            )
        ],
    )
