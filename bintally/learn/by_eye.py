"""A person beside the counter: which photos to count by eye, the file that the answers stand in, and what they say."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bintally.errors import RunError
from bintally.learn.limits import of_hidden, share
from bintally.scores import Floats, Predictions

COLUMNS = ("photo", "other", "answer")
SEEN, UNSEEN = "yes", "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person answered.

    Attributes:
        counts: photo id → how many items that person takes to lie in it.
        changes: ids of two photos of one bin → whether the unit that went or came can be seen to have done so.
    """

    counts: Mapping[str, int]
    changes: Mapping[tuple[str, str], bool]


def form(photos: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str:
    """The CSV file to fill in: a line a photo (how many?) and a line a pair (can the change be seen? yes or no)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([photo, "", ""] for photo in photos)
    writer.writerows([first, second, ""] for first, second in pairs)
    return out.getvalue()


def read_answers(path: Path) -> Answers:
    """Reads a form that was filled in; lines without an answer are left out.

    Raises:
        RunError: there is no such file, or a line that cannot be understood.
    """
    counts: dict[str, int] = {}
    changes: dict[tuple[str, str], bool] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise RunError(f"{path}: the first line reads {','.join(COLUMNS)}")
            for number, line in enumerate(reader, start=2):
                photo, other, answer = ((line[name] or "").strip() for name in COLUMNS)
                if not answer:
                    continue
                if not other and answer.isascii() and answer.isdigit():
                    counts[photo] = int(answer)
                elif other and answer in {SEEN, UNSEEN}:
                    changes[photo, other] = answer == SEEN
                else:
                    wanted = "yes or no" if other else "a whole number"
                    raise RunError(f"{path}, line {number}: the answer is {wanted}, not {answer!r}")
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path} is no CSV file in UTF-8: {error}") from error
    return Answers(counts=counts, changes=changes)


def judged(answers: Answers, photo_ids: Sequence[str], said: Predictions, shares: Floats) -> dict[str, Any]:
    """A person's counts held against the records and the counter's, and the changes that left a trace.

    Args:
        answers: the person's. Photos that were not scored are left out.
        photo_ids: ids of the scored photos.
        said: what the counter said of them.
        shares: how often each count from 0 occurs, for what hidden units cost.

    Returns:
        `counted`: None without counts, else `photos`, `accuracy`, `within_one`, `fewer`, `more` (shares with intervals: how
        often the person saw fewer or more than are on record), `counter` (its accuracy on the same photos);
        `changes`: None without, else `pairs`, `unseen` (share of the changes without a trace) and `accuracy` (what is
        left to a counter that sees the others, by `limits.of_hidden`, with the ends of that share).
    """
    places = {name: place for place, name in enumerate(photo_ids)}
    mine = [(places[name], count) for name, count in answers.counts.items() if name in places]
    counted = None
    if mine:
        at = np.array([place for place, _ in mine])
        seen = np.minimum(np.array([count for _, count in mine]), said.num_classes - 1)
        off, number = seen - said.classes[at], len(mine)
        counted = {
            "photos": number,
            "accuracy": share(int((off == 0).sum()), number),
            "within_one": share(int((np.abs(off) <= 1).sum()), number),
            "fewer": share(int((off < 0).sum()), number),
            "more": share(int((off > 0).sum()), number),
            "counter": share(int(said.correct[at].sum()), number),
        }
    changed = None
    if answers.changes:
        unseen = share(sum(not one for one in answers.changes.values()), len(answers.changes))
        changed = {
            "pairs": len(answers.changes),
            "unseen": unseen,
            # More hidden is less accuracy: the ends change places.
            "accuracy": {
                end: of_hidden(shares, unseen[other])
                for end, other in (("value", "value"), ("low", "high"), ("high", "low"))
            },
        }
    return {"counted": counted, "changes": changed}
