"""What others have published on the same photos, with the split each used, to stand beside our own figures."""

from dataclasses import dataclass

SHUFFLED = "photos shuffled: most test photos have a sibling of the same bin in training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published result.

    Attributes:
        who: whose.
        counts: the counts it covers, as in `str(CountRange)`.
        data: which photos.
        model: what it is.
        split: how test photos were kept apart, as far as is known.
        leaks: whether siblings of test photos were in training; None when the source does not say.
        accuracy: lowest and highest accuracy reported; the same twice for one figure.
        rmse: error of the likeliest count, None when not reported.
        per_count: accuracy per true count from `counts`' lowest up; empty when not reported.
    """

    who: str
    counts: str
    data: str
    model: str
    split: str
    leaks: bool | None
    accuracy: tuple[float, float]
    rmse: float | None = None
    per_count: tuple[float, ...] = ()


PUBLISHED = (
    Published(
        who="abid_challenge",
        counts="0-5",
        data="all photos with at most five items",
        model="ResNet34 from scratch",
        split=f"90/10, {SHUFFLED}",
        leaks=True,
        accuracy=(0.557, 0.557),
        rmse=0.93,
        per_count=(0.977, 0.834, 0.672, 0.549, 0.426, 0.449),
    ),
    Published(
        who="Stanford course report",
        counts="0-5",
        data="324,000 photos",
        model="ResNet34, pretrained, Adam",
        split="not stated; nothing says that series of one bin were kept together",
        leaks=None,
        accuracy=(0.562, 0.562),
        rmse=0.90,
    ),
    Published(
        who="about fifteen course projects",
        counts="1-5",
        data="the 10,441 photos of file_list.json",
        model="ResNet50, pretrained",
        split=SHUFFLED,
        leaks=True,
        accuracy=(0.26, 0.36),
    ),
)
"""Counting alone; the published object verification answers another question."""
