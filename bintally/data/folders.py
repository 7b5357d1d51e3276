"""Class folders: photos that lie in a folder a part and count, with no manifest; one is made of what is there."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bintally.bins import BinPhoto
from bintally.cores import num_cores
from bintally.counts import CountRange
from bintally.data.look import blur_of, look_of
from bintally.data.manifest import PARTS, SUFFIXES, Manifest, Part, Problem, Row, SplitInfo, digest_of, ordered
from bintally.data.split import group_photos
from bintally.errors import ManifestError, UnreadablePhotoError
from bintally.pixels import decode
from bintally.progress import Progress, Silent

NAMES: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "calibration": "calibration",
    "test": "test",
}
"""What the parts' folders may be called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    part: Part
    count: int
    path: Path
    photo_id: str


def parts_in(folder: Path) -> dict[Part, Path]:
    """The folders of the parts below a folder, by part; empty when there is none.

    Raises:
        ManifestError: two folders are of one part.
    """
    found: dict[Part, Path] = {}
    for name, part in NAMES.items():
        if (folder / name).is_dir():
            if part in found:
                raise ManifestError(f"{found[part]} and {folder / name} are both the {part} part: leave one")
            found[part] = folder / name
    return found


def read_folders(parts: Mapping[Part, Path], *, progress: Progress | None = None) -> Manifest:
    """Looks at every photo in class folders: `train/3/x.jpg` is a training photo of three items, `10+` of ten or more.

    The counts covered run from the smallest folder's to the largest's. Photos that cannot be read are among the
    problems. Groups, which only tell how much the parts leak, are those that the pictures alone show.

    Args:
        parts: part → its folder, which holds a folder a count.
        progress: who listens.

    Raises:
        ManifestError: a folder is named by no count, there is no photo, or only one count.
    """
    progress = progress or Silent()
    root = Path(os.path.commonpath([path.absolute() for path in parts.values()]))
    found, counts = _listing(parts, root)
    rows: list[Row] = []
    problems: list[Problem] = []
    progress.begin("looking at photos", len(found))
    pool = ThreadPoolExecutor(num_cores())
    try:
        for one in pool.map(_measure, [root] * len(found), found):
            if isinstance(one, Row):
                rows.append(one)
            else:
                problems.append(one)
            progress.advance()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        progress.end()
    if not rows:
        raise ManifestError(f"no photo below {root} can be read: {problems[0].what}")
    for problem in problems[:3]:
        progress.message(f"left out: {problem.photo_id}: {problem.what}")
    if len(problems) > 3:
        progress.message(f"left out: {len(problems) - 3:,} more photos that cannot be read")
    groups = group_photos(rows)
    parts_of: dict[str, set[Part | None]] = {}
    for row, group in zip(rows, groups, strict=True):
        parts_of.setdefault(group, set()).add(row.part)
    shares = [sum(row.part == part for row in rows) / len(rows) for part in PARTS]
    made = ordered(root, [replace(row, group=group) for row, group in zip(rows, groups, strict=True)], problems)
    split = SplitInfo(
        counts=counts,
        seed=0,
        fractions=(shares[0], shares[1], shares[2], shares[3]),
        shuffled=any(len(one) > 1 for one in parts_of.values()),
    )
    made = replace(made, split=split)
    return replace(made, digest=digest_of(made))


def _listing(parts: Mapping[Part, Path], root: Path) -> tuple[list[_Found], CountRange]:
    found: list[tuple[Part, int, Path]] = []
    open_at: set[int] = set()
    for part, folder in parts.items():
        for inner in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
            name = re.fullmatch(r"(\d{1,4})(\+?)", inner.name)
            if name is None:
                raise ManifestError(f"{inner} is named by no count: class folders are called 0, 1, 2 … or 10+")
            count = int(name[1])
            open_at |= {count} if name[2] else set()
            found += [(part, count, path) for path in sorted(inner.iterdir()) if _is_photo(path)]
    if not found:
        where = ", ".join(str(one) for one in parts.values())
        raise ManifestError(f"no photos in class folders below {where}: they lie as in train/3/00523.jpg")
    counts = {count for _, count, _ in found}
    if open_at and open_at != {max(counts)}:
        raise ManifestError(
            f"below {root} the folder {min(open_at)}+ stands beside the count {max(counts)}: only the largest is open"
        )
    if len(counts) < 2:
        raise ManifestError(f"every photo below {root} holds {max(counts)}: there is nothing to learn")
    # Ids are the files' names; where two files have one name, their places tell them apart.
    names = [path.stem for _, _, path in found]
    same = len(set(names)) < len(names)
    listed = [
        _Found(part=part, count=count, path=path, photo_id=_place(path, root) if same else path.stem)
        for part, count, path in found
    ]
    return listed, CountRange(lowest=min(counts), highest=max(counts), open_ended=bool(open_at))


def _place(path: Path, root: Path) -> str:
    return "-".join(path.relative_to(root).parts)


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _measure(root: Path, one: _Found) -> Row | Problem:
    try:
        data = one.path.read_bytes()
        rgb = decode(data)
    except OSError as error:
        return Problem(photo_id=one.photo_id, what=f"the photo cannot be opened: {error.strerror}")
    except UnreadablePhotoError as error:
        return Problem(photo_id=one.photo_id, what=f"the photo cannot be read: {error}")
    photo = BinPhoto(
        photo_id=one.photo_id,
        uri=one.path.absolute().relative_to(root).as_posix(),
        sha256=hashlib.sha256(data).hexdigest(),
        width=rgb.shape[1],
        height=rgb.shape[0],
    )
    return Row(
        photo=photo,
        num_bytes=len(data),
        blur=round(blur_of(rgb), 3),
        look=look_of(rgb),
        record=None,
        expected_quantity=None,
        label=one.count,
        label_source="record",
        part=one.part,
    )


def missing_parts(manifest: Manifest, wanted: Iterable[Part] = ("calibration", "test")) -> Sequence[Part]:
    """Which of these parts have no photo: what follows a training has to do without them."""
    return [part for part in wanted if not manifest.of_part(part)]
