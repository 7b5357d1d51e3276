"""How the verbs speak: results on standard output, everything else on standard error."""

import json
import os
import sys
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table

# What is piped into a file or another program has no width that a table should be squeezed into; and it is no terminal,
# whatever FORCE_COLOR says, which Jupyter sets for everything that a notebook starts.
_out = Console(
    highlight=False,
    soft_wrap=True,
    markup=False,
    width=None if sys.stdout.isatty() else 200,
    force_terminal=None if sys.stdout.isatty() else False,
)
_err = Console(
    stderr=True,
    highlight=False,
    soft_wrap=True,
    markup=False,
    force_terminal=None if sys.stderr.isatty() else False,
)


def out(text: str) -> None:
    """A line of result."""
    _out.print(text)


def out_json(value: Any, *, indent: int | None = 2) -> None:
    """A result for scripts. `indent=None` gives one line (JSON lines)."""
    _out.file.write(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def out_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A small table; the first column is text, the others are figures."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _out.print(table)


def note(text: str) -> None:
    """A line for the person who watches."""
    _err.print(text)


def error(text: str) -> None:
    """The one line of a failure."""
    _err.print(f"error: {' '.join(text.split())}")


class Bar:
    """A `bintally.progress.Progress` that draws a bar on a terminal, and a line now and then elsewhere."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._total: int | None = None
        self._done = 0
        self._name = ""

    def begin(self, task: str, total: int | None = None) -> None:
        """Starts a bar."""
        self.end()
        self._name, self._total, self._done = task, total, 0
        if not _err.is_terminal or os.environ.get("BINTALLY_PLAIN"):
            _err.print(f"{task}{'' if total is None else f' ({total:,})'} …")
            return
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=_err,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(task, total=total, note="", rate="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Moves the bar on."""
        self._done += steps
        if self._bar is not None:
            speed = self._bar.tasks[0].speed
            rate = f"{speed:,.0f}/s" if speed and speed >= 1 else ""
            self._bar.update(self._task, advance=steps, rate=rate)
            if note:
                self._bar.update(self._task, note=note)

    def end(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def message(self, text: str) -> None:
        """A line above the bar."""
        (self._bar.console if self._bar is not None else _err).print(text)
