"""What bintally promises in figures, measured: `python -m benchmarks [name…]` prints one table each.

A benchmark is a module of this package with a `main()` that returns a `Table`. Ratios are what is held to a limit:
both sides are measured in the same run, for absolute figures differ from machine to machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        what: what is compared with what.
        ours: our figure, with its unit.
        alternative: the other's figure, with its unit.
        ratio: ours against the other's.
        limit: the least (`at_most`: the greatest) ratio that is promised; None where none is.
        at_most: whether the ratio must stay below the limit rather than above.
    """

    what: str
    ours: str
    alternative: str
    ratio: float
    limit: float | None = None
    at_most: bool = False

    @property
    def is_held(self) -> bool:
        """Whether the promise is kept."""
        return self.limit is None or (self.ratio <= self.limit if self.at_most else self.ratio >= self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a benchmark found: its rows, under a title that says what was measured and on what."""

    title: str
    rows: Sequence[Row]

    @property
    def is_held(self) -> bool:
        """Whether every promise is kept."""
        return all(row.is_held for row in self.rows)

    def __str__(self) -> str:
        head = ("what", "ours", "alternative", "ratio", "limit", "")
        lines = [head]
        for row in self.rows:
            limit = "" if row.limit is None else f"{'≤' if row.at_most else '≥'} {row.limit:g}"
            verdict = "" if row.limit is None else ("held" if row.is_held else "NOT HELD")
            lines.append((row.what, row.ours, row.alternative, f"{row.ratio:.2f}", limit, verdict))
        widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
        text = [
            "  ".join(
                cell.ljust(width) if place in (0, 5) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, text[0], "-" * len(text[0]), *text[1:]])
