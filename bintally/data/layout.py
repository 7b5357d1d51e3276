"""The names of a photo and its record in the public layout, in a store and on disk alike, and what makes them whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from bintally.bins import METADATA_FOLDER, PHOTO_FOLDER, parse_record
from bintally.errors import RecordError
from bintally.pixels import decode

What = Literal["photo", "metadata"]

WHAT: tuple[What, What] = ("photo", "metadata")


def name_of(photo_id: str, what: What) -> str:
    """The object's name, and its path below a dataset's folder."""
    return f"{PHOTO_FOLDER}/{photo_id}.jpg" if what == "photo" else f"{METADATA_FOLDER}/{photo_id}.json"


def check(photo_id: str, what: What, data: bytes) -> None:
    """Holds that the bytes are a whole photo, or a record.

    Raises:
        UnreadablePhotoError: they are no photo, or not all of one.
        RecordError: they are no record.
    """
    if what == "photo":
        # At an eighth of the size a JPEG's entropy-coded data is still read to its end, which is what tells whether
        # it is whole: the same verdict for a third of the work of a full decode.
        decode(data, at_least=1)
    else:
        parse_record(data, photo_id)


def counts_on_disk(folder: Path, ids: Iterable[str]) -> dict[str, int]:
    """The expected quantities of those ids that have both a photo and a readable record in `folder`."""
    counts: dict[str, int] = {}
    for photo_id in ids:
        photo, record = (folder / name_of(photo_id, what) for what in WHAT)
        if photo.is_file() and record.is_file():
            try:
                counts[photo_id] = parse_record(record.read_bytes(), photo_id).expected_quantity
            except RecordError:
                continue  # what is wrong with it stands in the report of the fetch
    return counts
