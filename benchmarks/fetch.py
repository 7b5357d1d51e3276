"""Fetching against boto3, and against our own download alone, from a server that answers 30 ms late.

All sides write files. The server is nginx; the photos are those of the folder that BINTALLY_ABID names.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from benchmarks import Row, Table
from benchmarks._nginx import serving
from bintally.data.choose import Choice
from bintally.data.fetch import FetchSettings, fetch
from bintally.data.layout import WHAT, name_of
from bintally.data.store import StoreSettings, open_store

DELAY_S = 0.03
NUM_PHOTOS = 1200
NUM_ONE_BY_ONE = 60  # photos for the slowest side; rates are compared
ROUNDS = 7
THREADS = 64

Side = Callable[[str, Sequence[str], Path], None]


def main() -> Table:
    """Measures each side `ROUNDS` times in turn; ratios are medians of those within a round, so that drift cancels."""
    source = os.environ.get("BINTALLY_ABID")
    if not source:
        raise SystemExit("this benchmark needs BINTALLY_ABID, a folder laid out like the public dataset")
    ids = sorted(path.stem for path in (Path(source) / "bin-images").glob("*.jpg"))[:NUM_PHOTOS]
    sides: dict[str, tuple[Side, Sequence[str]]] = {
        "one by one": (boto3_one_by_one, ids[:NUM_ONE_BY_ONE]),
        "threads": (boto3_threads, ids),
        "alone": (download_alone, ids),
        "ours": (ours, ids),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    with serving(Path(source), delay_s=DELAY_S) as url:
        for _ in range(ROUNDS):
            for name, (side, chosen) in sides.items():
                rates[name].append(_rate(side, url, chosen))
    rate = {name: statistics.median(values) for name, values in rates.items()}

    def row(what: str, other: str, limit: float) -> Row:
        return Row(
            what=what,
            ours=f"{rate['ours']:,.0f}/s",
            alternative=f"{rate[other]:,.0f}/s",
            ratio=statistics.median(a / b for a, b in zip(rates["ours"], rates[other], strict=True)),
            limit=limit,
        )

    return Table(
        title=(
            f"fetch: {len(ids):,} photos and records from nginx answering {DELAY_S * 1000:.0f} ms late, "
            f"objects a second, medians of {ROUNDS}, {os.cpu_count()} cores"
        ),
        rows=[
            row("bintally fetch : boto3, one after another", "one by one", 15),
            row(f"bintally fetch : boto3, {THREADS} threads", "threads", 1.3),
            row("bintally fetch : our download alone", "alone", 0.7),
        ],
    )


def _rate(side: Side, url: str, ids: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("bin-images", "metadata"):
            (Path(folder) / name).mkdir()
        start = time.perf_counter()
        side(url, ids, Path(folder))
        seconds = time.perf_counter() - start
        found = sum(len(files) for _, _, files in os.walk(folder))
        assert found >= len(ids) * len(WHAT), f"{side.__name__} wrote {found} files"
    return len(ids) * len(WHAT) / seconds


def _names(ids: Sequence[str]) -> list[str]:
    return [name_of(photo_id, what) for photo_id in ids for what in WHAT]


def _client(url: str) -> Any:
    config = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, max_pool_connections=THREADS)
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config)


def boto3_one_by_one(url: str, ids: Sequence[str], folder: Path) -> None:
    """What a first script does."""
    client = _client(url)
    for name in _names(ids):
        (folder / name).write_bytes(client.get_object(Bucket="bucket", Key=name)["Body"].read())


def boto3_threads(url: str, ids: Sequence[str], folder: Path) -> None:
    """What a better script does: one client, many threads."""
    client = _client(url)

    def one(name: str) -> None:
        (folder / name).write_bytes(client.get_object(Bucket="bucket", Key=name)["Body"].read())

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, _names(ids)))


def _store(url: str) -> Any:
    return open_store("s3://bucket", StoreSettings(endpoint=url, unsigned=True))


def download_alone(url: str, ids: Sequence[str], folder: Path) -> None:
    """Our own requests and as many of them, with nothing but a write after each: no checks, no journal."""
    store, left = _store(url), iter(_names(ids))

    async def worker() -> None:
        for name in left:
            (folder / name).write_bytes(await store.get(name))

    async def all_of_them() -> None:
        await asyncio.gather(*(worker() for _ in range(FetchSettings().in_flight)))

    asyncio.run(all_of_them())


def ours(url: str, ids: Sequence[str], folder: Path) -> None:
    """What `bintally fetch` does."""
    report = fetch(_store(url), folder, Choice(ids=",".join(ids)))
    assert not report.problems, report.problems[:3]
