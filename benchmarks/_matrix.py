"""In how many seeds each rule fired in each training: what the benches of sick trainings print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Case → rule → in how many of `seeds` it fired.

    Attributes:
        table: the numbers.
        seeds: how many seeds there were.
        own: case → the rule that has to fire there; "" for a healthy one, where none may.
        rules: all rules, in the order of the columns.
        short: names of columns, where a rule's capitals do not do.
    """

    table: Mapping[str, Mapping[str, int]]
    seeds: int
    own: Mapping[str, str]
    rules: Sequence[str]
    short: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_held(self) -> bool:
        """Whether each rule fired on its own sickness in every seed, and none on a healthy run."""
        return not self.broken()

    def broken(self) -> list[str]:
        """The promises that are not kept, in words."""
        wrong = []
        for name, row in self.table.items():
            own = self.own[name]
            if own and row[own] < self.seeds:
                wrong.append(f"{name}: {own} fired in {row[own]} of {self.seeds}")
            if not own:
                wrong += [f"{name}: {rule} fired in {number}" for rule, number in row.items() if number]
        return wrong

    def __str__(self) -> str:
        short = [self.short.get(rule, "".join(c for c in rule if c.isupper())) for rule in self.rules]
        lines = [
            f"in how many of {self.seeds} seeds each rule fired; a sickness' own rule in brackets",
            f"{'':34}" + "".join(f"{name:>7}" for name in short),
        ]
        for name, row in self.table.items():
            cells = [f"[{row[rule]}]" if rule == self.own[name] else str(row[rule] or "·") for rule in self.rules]
            lines.append(f"{name:34}" + "".join(f"{cell:>7}" for cell in cells))
        legend = "  ".join(f"{a} {b}" for a, b in zip(short, self.rules, strict=True))
        return "\n".join([*lines, legend, *self.broken()])
