"""What a fetch comes to: figures, and whatever could not be had whole."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from bintally.data.layout import What

REPORT_FILE = "fetch-report.json"
"""The report's name in the dataset's folder."""

Kind = Literal["missing", "malformed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An object that could not be had whole.

    Attributes:
        id: the photo's id.
        what: "photo" or "metadata".
        kind: the store has none; its bytes are no photo or no record; or the store failed, retries and all.
        why: one line.
    """

    id: str
    what: What
    kind: Kind
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchReport:
    """What a fetch did. Photos count once, by their id; objects are photos and records.

    Attributes:
        source: the store's URL.
        ids: the photos asked for.
        fetched: of these, now whole with their record, for which anything was downloaded.
        skipped: of these, whole with their record before.
        missing: of these, photo or record (or both) are not in the store.
        malformed: of these, photo or record is no photo or no record.
        failed: of these, the store failed at photo or record.
        num_objects: objects downloaded and written.
        num_bytes: their bytes.
        seconds: how long it took.
        problems: by id.
    """

    source: str
    ids: tuple[str, ...]
    fetched: int
    skipped: int
    missing: int
    malformed: int
    failed: int
    num_objects: int
    num_bytes: int
    seconds: float
    problems: tuple[Problem, ...]

    @property
    def chosen(self) -> int:
        """How many photos were asked for."""
        return len(self.ids)

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        names = ("fetched", "skipped", "missing", "malformed", "failed", "num_objects", "num_bytes", "seconds")
        return {"source": self.source, "chosen": self.chosen} | {name: getattr(self, name) for name in names}

    def as_json(self) -> dict[str, Any]:
        """What the report file holds: the figures, and every problem."""
        return self.summary() | {"problems": [asdict(one) for one in self.problems]}

    def line(self) -> str:
        """The figures in a sentence."""
        rate = f", {self.num_objects / self.seconds:,.0f} objects/s" if self.num_objects and self.seconds else ""
        return (
            f"{self.chosen:,} photos asked for: {self.fetched:,} fetched "
            f"({self.num_bytes / 1e6:,.1f} MB in {self.seconds:,.1f} s{rate}), {self.skipped:,} there already, "
            f"{self.missing:,} missing, {self.malformed:,} malformed, {self.failed:,} failed"
        )
