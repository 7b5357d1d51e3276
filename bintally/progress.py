"""How long work tells how far it is, without knowing who listens. The command line listens with a bar."""

from typing import Protocol


class Progress(Protocol):
    """A listener. One task at a time: begin, advance any number of times, end."""

    def begin(self, task: str, total: int | None = None) -> None:
        """Says that `task` starts, with `total` steps if that is known."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Says that `steps` more are done; `note` is a short figure to show beside the bar."""

    def end(self) -> None:
        """Says that the task is over, whether it came to its end or not."""

    def message(self, text: str) -> None:
        """A line that stays after the bar has gone."""


class Silent:
    """Listens and shows nothing."""

    def begin(self, task: str, total: int | None = None) -> None:
        """Shows nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Shows nothing."""

    def end(self) -> None:
        """Shows nothing."""

    def message(self, text: str) -> None:
        """Shows nothing."""
