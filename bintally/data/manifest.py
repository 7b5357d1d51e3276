"""The manifest: one Parquet file that says of every photo what it is, what its record says, and its part."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bintally import files
from bintally.bins import METADATA_FOLDER, PHOTO_FOLDER, BinPhoto, BinRecord, id_order, parse_record
from bintally.cores import num_cores
from bintally.counts import CountRange
from bintally.data.look import blur_of, look_of
from bintally.data.rows import PARTS, SCHEMA, Part, Problem, Row, SplitInfo, row_of, values_of
from bintally.errors import ManifestError, RecordError, UnreadablePhotoError
from bintally.pixels import decode
from bintally.progress import Progress, Silent

__all__ = [
    "MANIFEST_FILE",
    "PARTS",
    "Manifest",
    "Part",
    "Problem",
    "Row",
    "SplitInfo",
    "build_manifest",
    "check_place",
    "digest_of",
    "open_manifest",
    "ordered",
    "read_manifest",
    "write_manifest",
]

MANIFEST_FILE = "manifest.parquet"
"""Its name in a dataset folder, beside `bin-images/` and `metadata/`."""

FORMAT = 1

SUFFIXES = {".jpg", ".jpeg", ".png"}

SMALL = 1_000
"""Fewer photos than this are measured by threads: starting processes would take longer than they save."""

_CHUNK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All photos of a dataset.

    Attributes:
        root: absolute folder that the photos' paths start from.
        rows: in the order of `bins.id_order`.
        problems: what is missing from the rows, or has no usable record there.
        split: how the rows were split, None before that.
        digest: SHA-256 over everything but `root`, so that a dataset can be moved. Set by building, writing, reading.
    """

    root: Path
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()
    split: SplitInfo | None = None
    digest: str = ""

    def of_part(self, part: Part) -> tuple[Row, ...]:
        """The rows of one part, in order."""
        return tuple(row for row in self.rows if row.part == part)

    def path_of(self, row: Row) -> Path:
        """Where the photo's file is."""
        return self.root / row.photo.uri


def digest_of(manifest: Manifest) -> str:
    """The SHA-256 of a manifest's content in one canonical form; neither `root` nor the old digest counts."""
    content = hashlib.sha256()
    head = {"format": FORMAT, "split": _split_json(manifest.split), "problems": _problems_json(manifest.problems)}
    for value in (head, *(values_of(row) for row in manifest.rows)):
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
        content.update(line.encode() + b"\n")
    return content.hexdigest()


def ordered(root: Path, rows: Iterable[Row], problems: Iterable[Problem] = ()) -> Manifest:
    """A manifest of these rows, put in order, with its digest.

    Raises:
        ManifestError: two rows have the same photo id.
    """
    in_order = tuple(sorted(rows, key=lambda row: id_order(row.photo.photo_id)))
    for one, other in itertools.pairwise(in_order):
        if one.photo.photo_id == other.photo.photo_id:
            raise ManifestError(
                f"photo {one.photo.photo_id} is twice in the manifest: {one.photo.uri}, {other.photo.uri}"
            )
    listed = tuple(sorted(problems, key=lambda problem: (id_order(problem.photo_id), problem.what)))
    made = Manifest(root=root.resolve(), rows=in_order, problems=listed)
    return dataclasses.replace(made, digest=digest_of(made))


def check_place(path: Path) -> None:
    """Raises ManifestError when `path` lies in a read-only folder: cheap, so ask before the work."""
    if path.parent.is_dir() and not path.parent.stat().st_mode & 0o222:
        # The superuser, hence every container, may write here all the same; who locked the folder did not mean that.
        raise ManifestError(f"{path.parent} is read-only: name another place with --to")


def write_manifest(path: Path, manifest: Manifest) -> Manifest:
    """Writes a manifest, whole or not at all.

    Args:
        path: the Parquet file. The root is kept relative to it when the root is the file's folder or lies below,
            so that a dataset can be moved with its manifest; else as it is.
        manifest: what to write.

    Returns:
        The manifest with its digest.

    Raises:
        ManifestError: the file cannot be written there.
        DiskFullError: there is no room.
    """
    check_place(path)
    done = dataclasses.replace(manifest, digest=digest_of(manifest))
    folder, root = path.resolve().parent, done.root.resolve()
    head = {
        "format": FORMAT,
        "root": root.relative_to(folder).as_posix() if root.is_relative_to(folder) else root.as_posix(),
        "digest": done.digest,
        "split": _split_json(done.split),
        "problems": _problems_json(done.problems),
    }
    schema = SCHEMA.with_metadata({_KEY: json.dumps(head, ensure_ascii=False).encode()})
    table = pa.Table.from_pylist([values_of(row) for row in done.rows], schema=schema)
    try:
        with files.replacing(path) as part:
            pq.write_table(table, part, compression="zstd")
    except OSError as error:
        raise ManifestError(
            f"cannot write {path}: {error.strerror or error}; name another place with --to"
        ) from error
    return done


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest and holds it against its digest.

    Raises:
        ManifestError: it is missing, damaged, no manifest, of another format, or was changed by hand.
    """
    with _readable(path):
        table = pq.read_table(path, memory_map=False, partitioning=None)
        head = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
    if head is None:
        raise ManifestError(f"{path} was not written by bintally: make a manifest by `bintally manifest DIR`")
    with _readable(path):
        if head["format"] != FORMAT:
            raise ManifestError(
                f"{path} has manifest format {head['format']}, this bintally reads {FORMAT}: make it again"
            )
        if not table.schema.equals(SCHEMA, check_metadata=False):
            raise ManifestError(_changed(path, "its columns are others"))
        manifest = Manifest(
            root=(path.resolve().parent / head["root"]).resolve(),
            rows=tuple(row_of(values) for values in table.to_pylist()),
            problems=tuple(Problem(**values) for values in head["problems"]),
            split=_split(head["split"]),
            digest=head["digest"],
        )
    if digest_of(manifest) != manifest.digest:
        raise ManifestError(_changed(path, "its content does not fit its digest"))
    for row in manifest.rows:
        place = PurePosixPath(row.photo.uri)
        if place.is_absolute() or ".." in place.parts:
            raise ManifestError(f"{path}: photo {row.photo.photo_id} lies outside the dataset: {row.photo.uri!r}")
    return manifest


def build_manifest(folder: Path, *, workers: int | None = None, progress: Progress | None = None) -> Manifest:
    """Makes the manifest of a dataset folder, laid out as the public bucket is. Nothing is written.

    A photo that cannot be decoded is listed as a problem and has no row. A photo whose record is missing or
    malformed is listed as a problem and keeps its row, without record and label: it can still be counted, it may
    be the sibling of a labelled photo, and a person's review may give it a label.

    Args:
        folder: holds `bin-images/<id>.jpg` and `metadata/<id>.json`.
        workers: processes; as many as there are cores by default.
        progress: who listens.

    Raises:
        ManifestError: the folder is no dataset folder, or holds no photo that can be read.
    """
    progress = progress or Silent()
    paths, problems = _listing(folder)
    num_workers = max(1, workers or num_cores())
    rows: list[Row] = []
    progress.begin("looking at photos", len(paths))
    try:
        for row, found in _measured(folder, paths, num_workers):
            if row is not None:
                rows.append(row)
            problems += found
            progress.advance()
    except BrokenProcessPool as error:
        raise ManifestError("a worker process was killed, likely for want of memory: try --workers 1") from error
    finally:
        progress.end()
    if not rows:
        raise ManifestError(f"no photo in {folder / PHOTO_FOLDER} can be read: {problems[0].what}")
    return ordered(folder, rows, problems)


def open_manifest(path: Path, *, workers: int | None = None, progress: Progress | None = None) -> Manifest:
    """Reads a manifest file; of a dataset folder its `manifest.parquet`, or builds that in memory when it has none.

    Raises:
        ManifestError: see `read_manifest` and `build_manifest`.
    """
    progress = progress or Silent()
    if not path.is_dir():
        return read_manifest(path)
    if not (path / MANIFEST_FILE).is_file():
        return build_manifest(path, workers=workers, progress=progress)
    manifest = read_manifest(path / MANIFEST_FILE)
    known = {row.photo.photo_id for row in manifest.rows} | {problem.photo_id for problem in manifest.problems}
    folder = path / PHOTO_FOLDER
    new = sum(name.stem not in known for name in _photos(folder)) if folder.is_dir() else 0
    if new:
        progress.message(f"{new:,} photos came after {path / MANIFEST_FILE} was written: `bintally manifest {path}`")
    return manifest


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    # What a damaged file does: Arrow's errors are ValueErrors and OSErrors; our own types refuse with ValueError.
    try:
        yield
    except FileNotFoundError as error:
        raise ManifestError(f"there is no manifest {path}: make it by `bintally manifest DIR`") from error
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ManifestError(f"{path} is no manifest, or a damaged one: make it again ({_line(error)})") from error


def _changed(path: Path, how: str) -> str:
    return (
        f"{path} was changed after bintally wrote it ({how}): make it again by `bintally manifest` or `split`; "
        "labels are corrected in the metadata or by a review, never in the manifest"
    )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 160 else f"{text[:157]}..."


_KEY = b"bintally"


def _split_json(split: SplitInfo | None) -> dict[str, Any] | None:
    if split is None:
        return None
    return dataclasses.asdict(split) | {"fractions": list(split.fractions)}


def _split(values: dict[str, Any] | None) -> SplitInfo | None:
    if values is None:
        return None
    return SplitInfo(
        counts=CountRange(**values["counts"]),
        seed=values["seed"],
        fractions=tuple(values["fractions"]),
        shuffled=values["shuffled"],
    )


def _problems_json(problems: Iterable[Problem]) -> list[dict[str, str]]:
    return [dataclasses.asdict(problem) for problem in problems]


def _photos(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def _listing(folder: Path) -> tuple[list[Path], list[Problem]]:
    photos, records = folder / PHOTO_FOLDER, folder / METADATA_FOLDER
    if not photos.is_dir():
        what = "it has no" if folder.is_dir() else "there is no such folder, hence no"
        raise ManifestError(f"{folder} is no dataset folder: {what} {PHOTO_FOLDER}/ (see `bintally fetch --help`)")
    paths = sorted(_photos(photos), key=lambda path: (id_order(path.stem), path.suffix))
    if not paths:
        raise ManifestError(f"{photos} holds no photos: fetch some first (`bintally fetch --help`)")
    # File names may be bytes that are no text; an id is text.
    odd = [path for path in paths if path.stem != _text(path.stem)]
    paths = [path for path in paths if path not in odd]
    seen = Counter(path.stem for path in paths)
    problems = [Problem(photo_id=_text(path.stem), what="the file's name is no text: not taken") for path in odd]
    problems += [
        Problem(photo_id=name, what=f"{number} photo files have this id: none was taken")
        for name, number in seen.items()
        if number > 1
    ]
    if records.is_dir():
        without = {path.stem for path in records.glob("*.json") if not path.name.startswith(".")} - set(seen)
        problems += [Problem(photo_id=_text(name), what="a record without a photo") for name in without]
    return [path for path in paths if seen[path.stem] == 1], problems


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _measured(folder: Path, paths: list[Path], workers: int) -> Iterator[tuple[Row | None, list[Problem]]]:
    pool: Executor
    if workers == 1 or len(paths) < SMALL:
        pool = ThreadPoolExecutor(workers)
    else:
        # Started anew rather than forked: who calls this may have threads (an object store's, torch's).
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        try:
            yield from pool.map(_measure, [folder] * len(paths), paths, chunksize=_CHUNK)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _measure(folder: Path, path: Path) -> tuple[Row | None, list[Problem]]:
    name = path.stem
    try:
        data = path.read_bytes()
        rgb = decode(data)
    except OSError as error:
        return None, [Problem(photo_id=name, what=f"the photo cannot be opened: {error.strerror}")]
    except UnreadablePhotoError as error:
        return None, [Problem(photo_id=name, what=f"the photo cannot be read: {error}")]
    record, problems = _record(folder / METADATA_FOLDER / f"{name}.json", name)
    row = Row(
        photo=BinPhoto(
            photo_id=name,
            uri=path.relative_to(folder).as_posix(),
            sha256=hashlib.sha256(data).hexdigest(),
            width=rgb.shape[1],
            height=rgb.shape[0],
        ),
        num_bytes=len(data),
        blur=round(blur_of(rgb), 3),
        look=look_of(rgb),
        record=record,
        expected_quantity=None if record is None else record.expected_quantity,
        label=None if record is None else record.expected_quantity,
        label_source="none" if record is None else "record",
    )
    return row, problems


def _record(path: Path, name: str) -> tuple[BinRecord | None, list[Problem]]:
    try:
        record = parse_record(path.read_bytes(), name)
    except FileNotFoundError:
        return None, [Problem(photo_id=name, what="a photo without a record")]
    except OSError as error:
        return None, [Problem(photo_id=name, what=f"the record cannot be opened: {error.strerror}")]
    except RecordError as error:
        return None, [Problem(photo_id=name, what=str(error))]
    return record, []
