"""What a counter answers: a distribution over counts, or the reason why a photo could not be read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRange:
    """The counts that a counter can give.

    Attributes:
        lowest: the smallest count covered (1 for a counter trained as the course does, else 0).
        highest: the largest count covered.
        open_ended: whether the last class means "`highest` or more" rather than exactly `highest`.
    """

    lowest: int = 0
    highest: int = 5
    open_ended: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.lowest < self.highest:
            raise ValueError(
                f"a range of counts runs from 0 or more upwards, not from {self.lowest} to {self.highest}"
            )

    @property
    def num_classes(self) -> int:
        """How many classes a head for this range has."""
        return self.highest - self.lowest + 1

    def class_of(self, count: int) -> int | None:
        """The class index of a true count, or None when the range leaves such bins out."""
        if count < self.lowest or (count > self.highest and not self.open_ended):
            return None
        return min(count, self.highest) - self.lowest

    def name(self, count: int) -> str:
        """How a count of this range is written: "7", or "10+" for an open last class."""
        return f"{count}+" if self.open_ended and count == self.highest else str(count)

    def __str__(self) -> str:
        return f"{self.lowest}-{self.highest}{'+' if self.open_ended else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountDistribution:
    """How likely each count is.

    Attributes:
        probabilities: index = count; they sum to 1 (counts below the counter's range have 0). When `open_mean`
            is given, the last one means "that many or more".
        open_mean: the mean count of the open last class (kept on the model's card, from the training labels),
            or None when the last class is exact.
    """

    probabilities: tuple[float, ...]
    open_mean: float | None = None

    def __post_init__(self) -> None:
        if not self.probabilities:
            raise ValueError("a distribution needs at least one probability")
        if not all(0.0 <= p <= 1.0 for p in self.probabilities):  # NaN fails both comparisons
            raise ValueError(f"probabilities lie in 0..1: {self.probabilities}")
        total = math.fsum(self.probabilities)
        if abs(total - 1.0) > 1e-4:
            raise ValueError(f"probabilities sum to 1, not {total}")
        if self.open_mean is not None and self.open_mean < len(self.probabilities) - 1:
            raise ValueError(
                f"the open class starts at {len(self.probabilities) - 1}: its mean is not {self.open_mean}"
            )

    @property
    def count(self) -> int:
        """The likeliest count (the smaller one of a tie); the last index means "or more" if the class is open."""
        return max(range(len(self.probabilities)), key=lambda n: (self.probabilities[n], -n))

    @property
    def probability(self) -> float:
        """The probability of the likeliest count."""
        return self.probabilities[self.count]

    @property
    def expected(self) -> float:
        """The mean of the distribution, in items; the open class counts as its mean."""
        values = [float(n) for n in range(len(self.probabilities))]
        if self.open_mean is not None:
            values[-1] = self.open_mean
        return math.fsum(p * v for p, v in zip(self.probabilities, values, strict=True))

    def interval(self, level: float = 0.9) -> tuple[int, int]:
        """The shortest run of counts that holds at least `level` of the probability.

        Of equally short runs, the one that holds most. Both ends belong to it.

        Raises:
            ValueError: `level` is not above 0 and at most 1.
        """
        if not 0.0 < level <= 1.0:
            raise ValueError(f"a level lies above 0 and at most at 1, not at {level}")
        size = len(self.probabilities)
        level = min(level, math.fsum(self.probabilities)) - 1e-9  # rounding must not widen the run
        for length in range(1, size + 1):
            held, low = max(
                (math.fsum(self.probabilities[low : low + length]), -low) for low in range(size - length + 1)
            )
            if held >= level:
                return -low, -low + length - 1
        return 0, size - 1

    def name(self, count: int) -> str:
        """How a count of this distribution is written: "7", or "10+" for an open last class."""
        return f"{count}+" if self.open_mean is not None and count == len(self.probabilities) - 1 else str(count)


def distribution_of(
    logits: Sequence[float], counts: CountRange, temperature: float = 1.0, open_mean: float | None = None
) -> CountDistribution:
    """The answer that a counter's logits for one photo mean.

    Args:
        logits: one a class (a list or an array); class k is the count `counts.lowest + k`.
        counts: the counter's range.
        temperature: divides the logits before the softmax; fitted on the calibration part.
        open_mean: what an open last class stands for, in items; its own start when None. Not used otherwise.

    Raises:
        ValueError: there is not one finite logit a class.
    """
    scaled = [float(logit) / temperature for logit in logits]
    if len(scaled) != counts.num_classes or not all(map(math.isfinite, scaled)):
        raise ValueError(f"{counts.num_classes} finite logits make a distribution over {counts}, not {scaled}")
    largest = max(scaled)
    powers = [math.exp(one - largest) for one in scaled]
    total = math.fsum(powers)
    return CountDistribution(
        probabilities=(*(0.0,) * counts.lowest, *(power / total for power in powers)),
        open_mean=max(open_mean or 0.0, float(counts.highest)) if counts.open_ended else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A photo that could not be counted, and why. A value in the answer: one bad photo never stops a batch."""

    reason: str


Answer = CountDistribution | Unreadable


class Counter(Protocol):
    """Whatever counts items in photos."""

    @property
    def model_id(self) -> str:
        """Which model answers: stable across processes, different for different weights."""

    def count(self, photos: Sequence[bytes]) -> list[Answer]:
        """One answer a photo, in order. `photos` are the bytes of image files, untrusted."""
