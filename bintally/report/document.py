"""What a report is made of: sections of plain blocks, which a page and a PDF are both set from.

Text may hold `code` between backticks; everything else in it is taken as it stands, whoever wrote it. Pictures are
data: URIs, as `page` makes them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from bintally.report import page

Tone = Literal["", "soft", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paragraph:
    """A paragraph, or a line of notice in a tone."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bullets:
    """A list."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Figures to see at once: label and value."""

    kind: ClassVar[str] = "tiles"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        columns: their names; empty names for a table that needs none.
        rows: cells as text.
        caption: what it shows.
        words: how many of the first columns hold words (left, wrapping); the others hold figures (right).
    """

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    words: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot with its caption, which is its alternative text too."""

    uri: str
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plots:
    """Plots beside each other; `wide` ones below each other in full width."""

    kind: ClassVar[str] = "plots"
    plots: tuple[Plot, ...]
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A count's share of a distribution, in per cent; `mark` is "label" (the record), "said" (the answer) or ""."""

    name: str
    percent: float
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A photo, what stands below it, and the distribution over counts where there is one."""

    uri: str
    alt: str
    title: str = ""
    lines: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Photos with answers."""

    kind: ClassVar[str] = "pictures"
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A contact sheet: a name and its photos a row."""

    kind: ClassVar[str] = "sheet"
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A stage that did not run: what is not there, and the command that would fill it in."""

    kind: ClassVar[str] = "missing"
    text: str
    command: str


Block = Paragraph | Heading | Bullets | Tiles | Table | Plots | Pictures | Sheet | Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A chapter; `anchor` is its name in links."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A whole report.

    Attributes:
        title: its name.
        lead: a line below it.
        summary: what stands before the contents.
        sections: the chapters, in order.
        foot: the last line.
    """

    title: str
    lead: str
    summary: tuple[Block, ...]
    sections: tuple[Section, ...]
    foot: str


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", *, words: int = 1) -> Table:
    """A table of anything: figures are written as `page.number` does, None as a dash."""
    cells = tuple(tuple(one if isinstance(one, str) else page.number(one) for one in row) for row in rows)
    return Table(columns=tuple(columns), rows=cells, caption=caption, words=words)


def plots(found: Iterable[Any], *, wide: bool = False) -> Plots:
    """Plots from the dictionaries that the pages' own modules give: "uri" with "caption" or "alt"."""
    return Plots(
        plots=tuple(Plot(uri=one["uri"], caption=one.get("caption") or one["alt"]) for one in found), wide=wide
    )
