"""As `serve`, like for like: ours in float32 against the servers in float32, and against the bare runtime in float32."""

from benchmarks import Table
from benchmarks._models import models
from benchmarks._servers import photo_files
from benchmarks.serve import throughput, title


def main() -> Table:
    """No limits are promised of these."""
    photos = photo_files()
    made = models()
    rows, _, _ = throughput(made.float32, "float32", made, photos, (None, None, None))
    return Table(title=title(photos), rows=rows)
