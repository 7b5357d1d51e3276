"""Ten times as many requests as the server can answer, come what may: what it answers, how soon, and afterwards.

As `serve` (which see for the photos and the model), int8. BINTALLY_BENCH_OVERLOAD (60) is for how many seconds; the
capacity is measured before it in the same process, with 8 clients.
"""

import collections
import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import Row, Table
from benchmarks._load import load
from benchmarks._models import models
from benchmarks._servers import Running, ours, photo_files, quantile, rate, tell

SECONDS = float(os.environ.get("BINTALLY_BENCH_OVERLOAD", "60"))
TIME_LIMIT_S = 30.0  # serve.time_limit_s
MOST = 2000  # connections of the generator


def main() -> Table:
    """One overload."""
    photos = photo_files()
    with ours(models().int8) as server:
        capacity = rate(server, photos, 15)
        tell(f"capacity {capacity:.1f}/s, {server.resident_mb:.0f} MB")
        shots = load(server.port, photos, rate=10 * capacity, seconds=SECONDS, most=MOST)
        memory_mb = server.resident_mb
        time.sleep(2)
        healthy = server.answers() and {s.status for s in load(server.port, photos, clients=1, number=20)} == {200}
        again = _rate_again(server, photos) if healthy else 0.0
    good = [shot for shot in shots if shot.status == 200]
    refused = [shot for shot in shots if shot.status == 503]
    others = collections.Counter(shot.status for shot in shots if shot.status not in {200, 503})
    tell(f"others {dict(others)}; 200s p50 {quantile(good, 0.5):.0f} ms p99 {quantile(good, 0.99):.0f} ms")
    tell(
        f"503s p50 {quantile(refused, 0.5):.1f} ms, p99 {quantile(refused, 0.99):.1f}, all {quantile(refused, 1):.1f}"
    )
    answered = len([shot for shot in good if shot.due + shot.seconds <= SECONDS]) / SECONDS
    worst = max((shot.seconds for shot in good), default=0.0)
    late = sum(shot.seconds > 0.05 for shot in refused) / max(1, len(refused))
    return Table(
        title=f"Overload: {len(shots):,} requests in {SECONDS:g} s, {10 * capacity:,.0f} a second; "
        f"{len(refused):,} refused; memory afterwards {memory_mb:.0f} MB",
        rows=[
            Row(
                what="200s : capacity",
                ours=f"{answered:.1f}/s",
                alternative=f"{capacity:.1f}/s",
                ratio=answered / capacity,
                limit=0.7,
            ),
            Row(
                what=f"p99 of the 503s (p50 {quantile(refused, 0.5):.1f} ms; {late:.2%} took longer) : 50 ms",
                ours=f"{quantile(refused, 0.99):.1f} ms",
                alternative="50 ms",
                ratio=quantile(refused, 0.99) / 50,
                limit=1,
                at_most=True,
            ),
            Row(
                what="slowest 200 : the time limit",
                ours=f"{worst:.2f} s",
                alternative=f"{TIME_LIMIT_S:g} s",
                ratio=worst / TIME_LIMIT_S,
                limit=1,
                at_most=True,
            ),
            # -1: the generator had no connection left, 0: the connection broke.
            Row(
                what=f"other answers than 200 and 503: {dict(others) or 'none'}",
                ours=str(others.total()),
                alternative="0",
                ratio=float(others.total()),
                limit=0,
                at_most=True,
            ),
            Row(
                what="afterwards : capacity",
                ours=f"{again:.1f}/s",
                alternative=f"{capacity:.1f}/s",
                ratio=again / capacity,
                limit=0.9,
            ),
        ],
    )


def _rate_again(server: Running, photos: Sequence[Path]) -> float:
    try:
        return rate(server, photos, 8)
    except RuntimeError as error:  # a finding, and no reason to lose the others
        tell(f"afterwards: {error}")
        return 0.0
