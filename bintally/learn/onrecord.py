"""What else the records say of training photos: words in the names of what lies there, products, litres, pounds.

It is for training alone: the record holds the answer, so that a counter must not see it. See `bintally.learn.auxiliary`.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bintally.bins import BinRecord

_WORD = re.compile(r"[a-z]{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTargets:
    """Targets of a training part, with what makes their losses comparable.

    Attributes:
        words: the words, most frequent first.
        values: (num, words + measures) float32: whether each word occurs, then standardised measures.
        known: (num, words + measures) float32: 1 where the record says it, else 0.
        start: (words + measures) float32: the answers of who knows the averages alone.
        entropy: of all words together at their shares, in nats: the loss of who knows the shares alone.
    """

    words: tuple[str, ...]
    values: Tensor
    known: Tensor
    start: Tensor
    entropy: float

    @property
    def num(self) -> int:
        """How many targets a photo has."""
        return int(self.values.shape[1])

    def losses(self, told: Tensor, places: Tensor) -> Tensor:
        """A loss a photo: of the words, plus of the measures, each about 1 for who knows the averages alone.

        Args:
            told: (n, num) logits of the words, then measures.
            places: (n,) int64 the photos' places in the training part.
        """
        num_words = len(self.words)
        told = told.float()
        values, known = self.values[places], self.known[places]
        words = nn.functional.binary_cross_entropy_with_logits(
            told[:, :num_words], values[:, :num_words], weight=known[:, :num_words], reduction="none"
        )
        measures = (told[:, num_words:] - values[:, num_words:]).square() * known[:, num_words:]
        num_measures = max(1, self.num - num_words)
        return words.sum(dim=1) / max(self.entropy, 1e-6) + measures.sum(dim=1) / num_measures

    def to(self, device: torch.device) -> "RecordTargets":
        """The same on a device."""
        return replace(self, values=self.values.to(device), known=self.known.to(device))


def record_targets(records: Sequence[BinRecord | None], num_words: int, *, measures: bool) -> RecordTargets | None:
    """The targets of training photos, or None when nothing is asked or known.

    Args:
        records: of each photo, None where there is none that can be believed.
        num_words: so many of the words that the names in most bins hold.
        measures: whether `measures_of` is among the targets.
    """
    if not any(records):
        return None
    of_photos = [None if record is None else words_of(record) for record in records]
    has_record = np.array([[record is not None] for record in records], dtype=np.float32)
    frequent = Counter(word for words in of_photos if words for word in words)
    telling = [word for word in frequent if frequent[word] < has_record.sum()]  # what every bin holds tells nothing
    chosen = tuple(sorted(telling, key=lambda word: (-frequent[word], word))[:num_words])
    there = np.array([[word in (words or ()) for word in chosen] for words in of_photos], dtype=np.float32)
    there = there.reshape(len(records), len(chosen))
    shares = there.sum(axis=0, dtype=np.float64) / has_record.sum()
    entropy = float(-(shares * np.log(shares)).sum() - ((1 - shares) * np.log1p(-shares)).sum())
    measured, known = _standardised([measures_of(record) for record in records])
    if not measures:
        measured, known = measured[:, :0], known[:, :0]
    if not measured.shape[1] + len(chosen):
        return None
    start = np.concatenate([np.log(shares) - np.log1p(-shares), np.zeros(measured.shape[1])])
    return RecordTargets(
        words=chosen,
        start=torch.from_numpy(start.astype(np.float32)),
        values=torch.from_numpy(np.concatenate([there, measured], axis=1)),
        known=torch.from_numpy(np.concatenate([np.repeat(has_record, len(chosen), axis=1), known], axis=1)),
        entropy=entropy,
    )


def words_of(record: BinRecord) -> frozenset[str]:
    """The words of three letters or more in the names of what lies in the bin, in small letters."""
    return frozenset(word for item in record.items if item.quantity for word in _WORD.findall(item.name.lower()))


def measures_of(record: BinRecord | None) -> tuple[float, ...]:
    """Logarithms of: products, litres in all, litres a unit, pounds in all, most units of one product; NaN where unknown."""
    if record is None:
        return (math.nan,) * 5
    items = [item for item in record.items if item.quantity]
    litres = [math.nan if item.litres is None else item.litres for item in items]
    pounds = [math.nan if item.weight_lb is None else item.weight_lb for item in items]
    in_all = sum(one * item.quantity for one, item in zip(litres, items, strict=True))
    weight = sum(one * item.quantity for one, item in zip(pounds, items, strict=True))
    units = sum(item.quantity for item in items)
    return (
        math.log1p(len(items)),
        math.log1p(in_all),
        math.log1p(in_all / units) if units else math.nan,
        math.log1p(weight),
        math.log1p(max((item.quantity for item in items), default=0)),
    )


def _standardised(measures: Sequence[tuple[float, ...]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measures with mean 0 and variance 1 over what is known, 0 where nothing is; and where something is."""
    values = np.array(measures, dtype=np.float64)
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    num = np.maximum(known.sum(axis=0), 1)
    mean = filled.sum(axis=0) / num
    away = np.where(known, values - mean, 0.0)
    spread = np.sqrt((away**2).sum(axis=0) / num)
    return (away / np.maximum(spread, 1e-6)).astype(np.float32), known.astype(np.float32)
