"""The bins that bintally draws itself, as a store of the public layout: photos, records in before/after series, list file."""

import errno
import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bintally.bins import METADATA_FOLDER, PHOTO_FOLDER, record_json
from bintally.cores import num_cores
from bintally.data.draw_series import DrawnBin, DrawnThing, DrawSettings, draw_series, drawn_bins, series_of
from bintally.errors import DiskFullError, StoreError
from bintally.progress import Progress, Silent

__all__ = [
    "LIST_FILE",
    "DrawSettings",
    "DrawSummary",
    "DrawnBin",
    "DrawnThing",
    "draw_series",
    "draw_store",
    "drawn_bins",
    "list_of",
    "series_of",
]

LIST_FILE = "file_list.json"
_CHUNK = 6  # series a task


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSummary:
    """What was drawn.

    Attributes:
        folder: where it lies.
        num_photos: how many photos.
        num_series: how many bins they show.
        num_bytes: of all photos together.
        counts: count to number of photos, by what was drawn.
        hidden_share: mean over the bins that are not empty.
        wrong: photo id to the true count, of the records that were made wrong.
    """

    folder: Path
    num_photos: int
    num_series: int
    num_bytes: int
    counts: dict[int, int]
    hidden_share: float
    wrong: dict[str, int]


def draw_store(
    folder: Path, settings: DrawSettings, progress: Progress | None = None, *, workers: int | None = None
) -> DrawSummary:
    """Draws photos and records into a new folder laid out like the public dataset, with the course's list file.

    Args:
        folder: `bin-images/<id>.jpg`, `metadata/<id>.json` and `file_list.json` come to lie here; it must be missing
            or empty. It appears when everything is in it, not before.
        settings: what to draw.
        progress: told of every photo.
        workers: processes to draw with; by default as many as there are cores. More than one starts new Python
            processes, so a script that calls this needs its `if __name__ == "__main__"`.

    Raises:
        StoreError: the folder has something in it, or cannot be written.
        DiskFullError: there was no room; nothing is left behind.
    """
    progress = progress or Silent()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is there already and not empty: name a new folder to draw into, or remove it")
    series = series_of(settings)
    part = folder.with_name(f".{folder.name}.part")
    progress.begin("drawing bins", settings.num_photos)
    try:
        shutil.rmtree(part, ignore_errors=True)  # what a killed run left
        for name in (PHOTO_FOLDER, METADATA_FOLDER):
            (part / name).mkdir(parents=True)
        drawn: list[_Row] = []
        for rows in _draw_all(part, settings, series, workers):
            drawn += rows
            progress.advance(len(rows))
        drawn.sort()
        _write(part / LIST_FILE, json.dumps(list_of({row.photo_id: row.expected for row in drawn})).encode())
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no room left on the disk for {folder}: free some space and run this again"
            ) from error
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        progress.end()
    hidden = [row.hidden_share for row in drawn if row.count]
    return DrawSummary(
        folder=folder,
        num_photos=len(drawn),
        num_series=len(series),
        num_bytes=sum(row.num_bytes for row in drawn),
        counts=dict(sorted(Counter(row.count for row in drawn).items())),
        hidden_share=float(np.mean(hidden)) if hidden else 0.0,
        wrong={row.photo_id: row.count for row in drawn if row.count != row.expected},
    )


def list_of(expected: dict[str, int]) -> dict[str, list[str]]:
    """The course's list file: the metadata of every photo with one to five items, by count.

    Args:
        expected: photo id to the record's quantity.
    """
    return {
        str(count): [
            f"data/{METADATA_FOLDER}/{photo_id}.json" for photo_id, value in expected.items() if value == count
        ]
        for count in range(1, 6)
    }


@dataclass(frozen=True, slots=True, order=True)
class _Row:
    photo_id: str
    expected: int
    count: int
    hidden_share: float
    num_bytes: int


def _draw_all(
    part: Path, settings: DrawSettings, series: list[tuple[int, int]], workers: int | None
) -> Iterator[list[_Row]]:
    chunks = [range(start, min(start + _CHUNK, len(series))) for start in range(0, len(series), _CHUNK)]
    workers = min(workers or num_cores(), max(1, len(chunks) // 8))
    if workers == 1:
        for chunk in chunks:
            yield _draw_chunk(part, settings, chunk, series[chunk.start : chunk.stop])
        return
    # Fresh processes, not forks: the caller may hold threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            waiting: list[Future[list[_Row]]] = [
                pool.submit(_draw_chunk, part, settings, chunk, series[chunk.start : chunk.stop]) for chunk in chunks
            ]
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_chunk(part: Path, settings: DrawSettings, indexes: range, series: list[tuple[int, int]]) -> list[_Row]:
    rows = []
    for index, (first, length) in zip(indexes, series, strict=True):
        for drawn in draw_series(settings, index, first, length):
            _write(part / PHOTO_FOLDER / f"{drawn.photo_id}.jpg", drawn.photo)
            body = json.dumps(record_json(drawn.record), indent=4).encode()
            _write(part / METADATA_FOLDER / f"{drawn.photo_id}.json", body)
            expected, count = drawn.record.expected_quantity, len(drawn.things)
            rows.append(_Row(drawn.photo_id, expected, count, drawn.hidden_share, len(drawn.photo)))
    return rows


def _write(path: Path, data: bytes) -> None:
    # Plainly: the folder around it is renamed when it is whole.
    path.write_bytes(data)
