"""The frame of every page: one self-contained HTML file, with plots and photos inside it as data: URIs."""

import base64
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from bintally import __version__
from bintally.errors import UnreadablePhotoError
from bintally.pixels import decode

INK = "#7d8590"
"""Lines and letters of plots: a grey that can be read on white and on black, as plots have no ground of their own."""

COLOURS = ("#3b82c4", "#e0862e", "#3f9e5a", "#c8504b", "#8a68b8", "#8c6d52", "#d678b0", "#5aa9b0")
"""Series of plots, in this order; each can be told from the others on white and on black."""

_NOTHING = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='96' height='96'%3E"
    "%3Crect width='96' height='96' fill='%23888'/%3E%3Cpath d='M0 0L96 96M96 0L0 96' stroke='%23fff'/%3E%3C/svg%3E"
)


def render(template: str, **values: Any) -> str:
    """Fills a template of `report/templates/` and gives the whole page.

    Args:
        template: the file's name, such as "summary.html"; it extends "base.html" and fills the blocks `title`,
            `lead` (a line below the title) and `content`. "parts.html" has macros for tables, tiles and pictures.
        values: what the template speaks of; every name that it uses must be given. They are escaped.

    Returns:
        HTML with inline style, no scripts, and nothing from elsewhere.
    """
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page: str = _environment().get_template(template).render(made=made, version=__version__, **values)
    return page


def figure(width: float = 6.4, height: float = 3.2, *, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A plot in the page's look, without a ground of its own, so that it stands on light and on dark pages.

    Args:
        width: inches; 6.4 fills half of a wide page.
        height: inches.
        columns: how many axes beside each other.
        rows: how many rows of axes.

    Returns:
        The figure and its axes, row by row.
    """
    made = Figure(figsize=(width, height), layout="constrained")
    made.patch.set_alpha(0)
    axes: list[Axes] = list(np.ravel(made.subplots(rows, columns, squeeze=False)))
    for ax in axes:
        ax.patch.set_alpha(0)
        ax.set_prop_cycle(color=COLOURS)
        ax.tick_params(colors=INK, labelsize=8)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            ax.spines[side].set_color(INK)
        ax.xaxis.label.set(color=INK, size=9)
        ax.yaxis.label.set(color=INK, size=9)
        ax.title.set(color=INK, size=10)
        ax.grid(visible=True, axis="y", color=INK, alpha=0.2, linewidth=0.6)
        ax.set_axisbelow(True)
    return made, axes


def add_legend(ax: Axes, **wishes: Any) -> None:
    """Adds a legend in the page's look; `wishes` go to matplotlib's `legend`."""
    ax.legend(**({"frameon": False, "fontsize": 8, "labelcolor": INK} | wishes))


def figure_uri(fig: Figure) -> str:
    """A plot as an SVG data: URI. The same plot gives the same bytes."""
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "bintally"}):
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _uri("image/svg+xml", out.getvalue())


def photo_uri(data: bytes, side: int) -> str:
    """A thumbnail as a JPEG data: URI, aspect kept.

    Args:
        data: the bytes of an image file, untrusted.
        side: longest side in pixels; smaller photos stay as they are.

    Returns:
        The URI; a grey square with a cross for what cannot be read.
    """
    try:
        rgb = decode(data, at_least=side)
    except UnreadablePhotoError:
        return _NOTHING
    return array_uri(rgb, side)


def array_uri(rgb_HWC: np.ndarray[Any, np.dtype[np.uint8]], side: int) -> str:
    """An RGB array, uint8 of shape (height, width, 3), as a JPEG data: URI with no side above `side` pixels."""
    image = Image.fromarray(rgb_HWC)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return _uri("image/jpeg", out.getvalue())


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent: 0.385 as "38.5 %"; "–" for None."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | None, digits: int = 2) -> str:
    """A figure: whole numbers with thousands marked, others with `digits` digits; "–" for None."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def spans(text: str) -> list[tuple[str, bool]]:
    """Cuts text at its backticks: pieces, each with whether it is code. A backtick without a second one is a letter."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        pieces[-2:] = ["`".join(pieces[-2:])]
    return [(piece, place % 2 == 1) for place, piece in enumerate(pieces) if piece]


def cells(rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    """Rows of a table as text: figures by `number`, text as it is."""
    return [[one if isinstance(one, str) else number(one) for one in row] for row in rows]


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("bintally.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "number": number, "spans": spans}
    return made
