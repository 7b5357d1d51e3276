"""Which photos to take: ids by range, by file, by the course's list, and so many of each count."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from bintally import files
from bintally.bins import METADATA_FOLDER, id_order
from bintally.errors import UsageError

# Ids become names of files: nothing that could lead out of the folder, nothing hidden.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)
_RANGE = re.compile(r"(\d+)-(\d+)", re.ASCII)
_MOST = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the user asked for; at most one of the first three. With none of them: all that the store lists.

    Attributes:
        list_file: a list in the course's format: count → names of metadata files.
        ids: ids and ranges of ids, as in "1-1000,00523". A range keeps leading zeros.
        ids_file: a text file of such ids, one or more a line; `#` starts a remark.
        limit: at most so many photos, the first by id (after `per_count`, evenly over the counts).
        per_count: at most so many photos of each expected quantity, the first by id.
    """

    list_file: Path | None = None
    ids: str | None = None
    ids_file: Path | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    per_count: Annotated[int, Field(ge=1)] | None = None

    def named(self) -> tuple[list[str], dict[str, int]] | None:
        """The ids that are named, in order and each once, with their counts where a list gives them.

        Returns:
            None when nothing is named: the store is to be listed.

        Raises:
            UsageError: two ways of naming at once, an unreadable file, or an id that can be none.
        """
        if sum(way is not None for way in (self.list_file, self.ids, self.ids_file)) > 1:
            raise UsageError("give one of --list, --ids and --ids-file, not two")
        if self.list_file is not None:
            counts = read_list(self.list_file)
            return sorted(counts, key=id_order), counts
        if self.ids is not None:
            return parse_ids(self.ids, "--ids"), {}
        if self.ids_file is not None:
            lines = (line.partition("#")[0].split() for line in _text(self.ids_file).splitlines())
            return parse_ids(",".join(word for words in lines for word in words), str(self.ids_file)), {}
        return None


def is_id(word: str) -> bool:
    """Whether `word` can be a photo's id, and so the name of a file."""
    return _ID.fullmatch(word) is not None


def parse_ids(text: str, source: str) -> list[str]:
    """Reads ids and ranges, separated by commas: "1-3,00523" is 1, 2, 3, 00523.

    A range whose ends are of one length with leading zeros keeps them: "00001-00099". Order: by `id_order`.

    Raises:
        UsageError: a word is no id, or a range runs backwards, mixes lengths with zeros, or is too long.
    """
    found: dict[str, None] = {}
    for word in (piece.strip() for piece in text.split(",")):
        if not word:
            continue
        if span := _RANGE.fullmatch(word):
            first, last = span.groups()
            padded = (len(first) > 1 and first.startswith("0")) or (len(last) > 1 and last.startswith("0"))
            if padded and len(first) != len(last):
                raise UsageError(f"{source}: {word!r}: write both ends with as many digits, as in 00001-00099")
            if int(last) < int(first):
                raise UsageError(f"{source}: {word!r} runs backwards")
            if int(last) - int(first) >= _MOST:
                raise UsageError(f"{source}: {word!r} names more than {_MOST:,} ids")
            width = len(first) if padded else 0
            found.update((f"{number:0{width}d}", None) for number in range(int(first), int(last) + 1))
        elif is_id(word):
            found[word] = None
        else:
            raise UsageError(f"{source}: {word[:60]!r} is no id of a photo")
    if not found:
        raise UsageError(f"{source} names no id")
    return sorted(found, key=id_order)


def read_list(path: Path) -> dict[str, int]:
    """Reads a list in the course's format, `{"1": ["data/metadata/100313.json", …], …}`, as id → count.

    Raises:
        UsageError: the file is missing or not in that format.
    """
    try:
        body = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError(f'{path} is no list of photos: it should look like {{"1": ["data/metadata/100313.json"]}}')
    counts: dict[str, int] = {}
    for key, names in body.items():
        if not (key.isascii() and key.isdigit()):
            raise UsageError(f"{path}: the key {key[:40]!r} is no count")
        if not isinstance(names, list):
            raise UsageError(f"{path}: under {key!r} stands no list of names")
        for name in names:
            photo_id = PurePosixPath(name).stem if isinstance(name, str) else ""
            if not is_id(photo_id):
                raise UsageError(f"{path}: {str(name)[:60]!r} is no name of a metadata file")
            if counts.setdefault(photo_id, int(key)) != int(key):
                raise UsageError(f"{path}: {photo_id} stands under both {counts[photo_id]} and {key}")
    if not counts:
        raise UsageError(f"{path} names no photo")
    return counts


def write_list(path: Path, counts: Mapping[str, int]) -> None:
    """Writes id → count as a list in the course's format, ordered by count and id; `read_list` reads it back."""
    body: dict[str, list[str]] = {}
    for photo_id in sorted(counts, key=lambda one: (counts[one], id_order(one))):
        body.setdefault(str(counts[photo_id]), []).append(f"data/{METADATA_FOLDER}/{photo_id}.json")
    files.write_json(path, body)


def so_many(ids: Sequence[str], counts: Mapping[str, int], *, per_count: int | None, limit: int | None) -> list[str]:
    """The first `per_count` ids of each count, of these at most `limit`, evenly over the counts.

    Args:
        ids: in the order of preference.
        counts: id → count; ids without one are left out when `per_count` is given.
        per_count: at most so many of each count.
        limit: at most so many in all.

    Returns:
        ids by `id_order`.
    """
    if per_count is None:
        return sorted(ids[:limit], key=id_order)
    taken: dict[int, int] = {}
    ranked: list[tuple[int, int, str]] = []
    for photo_id in ids:
        count = counts.get(photo_id)
        if count is None or taken.get(count, 0) >= per_count:
            continue
        ranked.append((taken.setdefault(count, 0), count, photo_id))
        taken[count] += 1
    return sorted((photo_id for _, _, photo_id in sorted(ranked)[:limit]), key=id_order)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text: {error}") from error
