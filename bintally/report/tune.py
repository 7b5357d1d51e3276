"""The page of a tuning: what the trials found, which settings mattered, and whether the winner is more than luck."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes

from bintally import files
from bintally.report.page import COLOURS, INK, add_legend, figure, figure_uri, render

_COLOURS = colormaps["viridis"]

Rows = Sequence[Mapping[str, str]]


def read_trials(folder: Path) -> list[dict[str, str]]:
    """The lines of a tuning's `trials.csv`."""
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_page(folder: Path, path: Path) -> None:
    """Writes the page of a tuning's folder, from `tune.json` and `trials.csv`."""
    found = json.loads((folder / "tune.json").read_text(encoding="utf-8"))
    files.write_text(path, page(folder.name, found, read_trials(folder)))


def page(name: str, found: Mapping[str, Any], rows: Rows) -> str:
    """One self-contained HTML page.

    Args:
        name: the tuning's.
        found: what `tune.json` holds.
        rows: the lines of `trials.csv`.
    """
    names = [one["name"] for one in found["space"]]
    verdict = found["verdict"]
    columns, lines = trials_table(found, rows)
    return render(
        "tune.html",
        name=name,
        objective=found["objective"],
        better=found["better"],
        tiles=_tiles(found),
        said=verdict["said"] if verdict else "The best trials were not trained again with other seeds.",
        within=verdict is None or verdict["within_noise"],
        columns=columns,
        lines=lines,
        candidates=candidates(verdict) if verdict else [],
        plots=plots(found, rows, names),
        best=[(key, short(value)) for key, value in found["best"]["values"].items()],
    )


def trials_table(found: Mapping[str, Any], rows: Rows, top: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Columns and lines of the table of trials, the best ones first.

    Args:
        found: what `tune.json` holds.
        rows: the lines of `trials.csv`.
        top: how many lines at most.
    """
    names = [one["name"] for one in found["space"]]
    columns = ["trial", found["objective"], *(name.partition(".")[2] for name in names), "epochs", "seconds", "ended"]
    lines = []
    for row in _ranked(found, rows)[:top]:
        value = _figure(row["value"])
        figures = ["–" if value is None else f"{value:.4f}", *(short(row[name]) for name in names)]
        lines.append([row["trial"], *figures, row["epochs"], row["seconds"], row["state"]])
    return columns, lines


def _ranked(found: Mapping[str, Any], rows: Rows) -> list[Mapping[str, str]]:
    sign = -1 if found["better"] == "higher" else 1
    places = {"complete": 0, "pruned": 1}

    def key(row: Mapping[str, str]) -> tuple[int, float]:
        value = _figure(row["value"])
        return places.get(row["state"], 2), math.inf if value is None else sign * value

    return sorted(rows, key=key)


def _tiles(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    states = found["states"]
    winner = found["best"]["trial"]
    tiles = [("winner", "the recipe as it was" if winner is None else f"trial {winner}")]
    tiles += [(f"trials {state}", f"{num:,}") for state, num in states.items()]
    difference = (found["verdict"] or {}).get("difference")
    if difference:
        tiles.append(("negative log-likelihood, less the recipe's", f"{difference['value']:+.4f}"))
    return tiles


def candidates(verdict: Mapping[str, Any]) -> list[list[str]]:
    """A row a candidate that was trained again: mean, spread, each seed, failures."""
    lines = []
    for one in sorted(verdict["candidates"], key=lambda one: (one["trial"] != verdict["winner"], str(one["trial"]))):
        mean, spread = one["mean"], one["spread"]
        lines.append(
            [
                "the recipe as it was" if one["trial"] is None else f"trial {one['trial']}",
                "–" if mean is None else f"{mean:.4f}",
                "–" if spread is None else f"{spread:.4f}",
                ", ".join(f"{value:.4f}" for value in one["values"]),
                f"{one['failed']}",
            ]
        )
    return lines


def plots(found: Mapping[str, Any], rows: Rows, names: Sequence[str]) -> list[dict[str, str]]:
    """History, curves, importances, parallel coordinates and slices: "uri" and "caption" of each."""
    done = [row for row in rows if row["state"] == "complete" and _figure(row["value"]) is not None]
    if not done:
        return []
    made = [_history(found, rows), _curves(found, rows)]
    if found["importances"]:
        made.append(_importance(found["importances"]))
    if len(names) > 1:
        made.append(_parallel(found, done))
    made += [_slice(found, rows, one) for one in found["space"]]
    return made


def _history(found: Mapping[str, Any], rows: Rows) -> dict[str, str]:
    objective, lower = found["objective"], found["better"] == "lower"
    fig, (ax,) = figure()
    best: list[tuple[int, float]] = []
    for state, colour in (("pruned", COLOURS[5]), ("complete", COLOURS[0])):
        points = [
            (int(row["trial"]), value)
            for row in rows
            if row["state"] == state and (value := _figure(row["value"])) is not None
        ]
        if points:
            ax.scatter([x for x, _ in points], [y for _, y in points], s=14, color=colour, label=state)
        if state == "complete":
            for number, value in points:
                reached = best[-1][1] if best else value
                best.append((number, min(value, reached) if lower else max(value, reached)))
    ax.step(*zip(*best, strict=True), where="post", color=COLOURS[1], linewidth=1, label="best so far")
    _keep_the_good(ax, rows, lower)
    ax.set_xlabel("trial")
    ax.set_ylabel(objective)
    add_legend(ax)
    return {"uri": figure_uri(fig), "caption": f"History: {objective} on the validation part, trial by trial"}


def _curves(found: Mapping[str, Any], rows: Rows) -> dict[str, str]:
    fig, (ax,) = figure()
    states = {row["trial"]: row["state"] for row in rows}
    winner = str(found["best"]["trial"])
    for number, values in found["curves"].items():
        colour = COLOURS[1] if number == winner else COLOURS[0 if states.get(number) == "complete" else 5]
        marker = "." if len(values) == 1 else None
        thick = 2.0 if number == winner else 0.7
        ax.plot(range(1, len(values) + 1), values, color=colour, marker=marker, linewidth=thick, zorder=2 + thick)
    _keep_the_good(ax, rows, found["better"] == "lower")
    ax.set_xlabel("epoch")
    ax.set_ylabel(found["objective"])
    return {
        "uri": figure_uri(fig),
        "caption": "Every trial over its epochs, the best epoch so far; brown: stopped early",
    }


def _importance(importances: Mapping[str, float]) -> dict[str, str]:
    fig, (ax,) = figure(height=0.8 + 0.35 * len(importances))
    names = sorted(importances, key=lambda name: importances[name])
    ax.barh(names, [importances[name] for name in names], color=COLOURS[0], height=0.6)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("importance")
    return {"uri": figure_uri(fig), "caption": "Importance of each setting for being among the best (PED-ANOVA)"}


def _parallel(found: Mapping[str, Any], done: Rows) -> dict[str, str]:
    """Parallel coordinates: one line a finished trial through its settings to its value, coloured by how good it was."""
    values = [float(row["value"]) for row in done]
    last = {"name": "value", "choices": [], "low": min(values), "high": max(values), "log": False}
    space = [*found["space"], last]
    fig, (ax,) = figure(width=max(6.4, 1.3 * len(space)), height=3.6)
    ranked = _ranked(found, done)
    for place, row in enumerate(reversed(ranked)):
        share = place / max(1, len(ranked) - 1)
        heights = [_height(one, row[one["name"]]) for one in space]
        ax.plot(range(len(space)), heights, color=_COLOURS(share), linewidth=0.8 + share, alpha=0.4 + 0.6 * share)
    for place, one in enumerate(space):
        ax.axvline(place, color=INK, linewidth=0.6)
        for height, text in _marks(one):
            ax.annotate(text, (place, height), fontsize=7, color=INK, xytext=(3, 0), textcoords="offset points")
    names = [one["name"].partition(".")[2] for one in found["space"]]
    ax.set_xticks(range(len(space)), [*names, found["objective"]], rotation=20)
    ax.set_ylim(-0.05, 1.05)
    ax.set_yticks([])
    ax.grid(visible=False, axis="y")
    return {"uri": figure_uri(fig), "caption": "Parallel coordinates of the finished trials; the lighter, the better"}


def _slice(found: Mapping[str, Any], rows: Rows, one: Mapping[str, Any]) -> dict[str, str]:
    fig, (ax,) = figure(4.2, 2.8)
    for state, colour in (("pruned", COLOURS[5]), ("complete", COLOURS[0])):
        points = [
            (_place(one, row[one["name"]]), value)
            for row in rows
            if row["state"] == state and (value := _figure(row["value"])) is not None
        ]
        if points:
            ax.scatter([x for x, _ in points], [y for _, y in points], s=14, color=colour, label=state)
    _keep_the_good(ax, rows, found["better"] == "lower")
    if one["choices"]:
        ax.set_xticks(range(len(one["choices"])), [short(choice) for choice in one["choices"]])
    elif one["log"]:
        ax.set_xscale("log")
    ax.set_xlabel(one["name"])
    ax.set_ylabel(found["objective"])
    return {"uri": figure_uri(fig), "caption": f"Slice: {found['objective']} by {one['name']}"}


def _keep_the_good(ax: Axes, rows: Rows, lower: bool) -> None:
    # A rate at which nothing was learnt must not press all others into one line: the worst quarter may lie outside.
    values = sorted(value for row in rows if (value := _figure(row["value"])) is not None)
    if len(values) < 4:
        return
    low, high = values[0], values[-1]
    quarter = values[(3 * len(values)) // 4] if lower else values[len(values) // 4]
    spread = abs(quarter - (low if lower else high)) or abs(high - low) or 1.0
    if lower:
        ax.set_ylim(low - 0.1 * spread, min(high, quarter + spread) + 0.1 * spread)
    else:
        ax.set_ylim(max(low, quarter - spread) - 0.1 * spread, high + 0.1 * spread)


def _place(one: Mapping[str, Any], text: str) -> float:
    if one["choices"]:
        choices = [str(choice) for choice in one["choices"]]
        return float(choices.index(text)) if text in choices else math.nan
    return float(text)


def _height(one: Mapping[str, Any], text: str) -> float:
    place = _place(one, text)
    if one["choices"]:
        return place / max(1, len(one["choices"]) - 1)
    low, high = one["low"], one["high"]
    if low == high:
        return 0.5
    if one["log"]:
        return math.log(place / low) / math.log(high / low)
    return float((place - low) / (high - low))


def _marks(one: Mapping[str, Any]) -> list[tuple[float, str]]:
    if one["choices"]:
        last = max(1, len(one["choices"]) - 1)
        return [(place / last, short(choice)) for place, choice in enumerate(one["choices"])]
    return [(0.0, short(one["low"])), (1.0, short(one["high"]))]


def _figure(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def short(value: Any) -> str:
    """A setting's value in a few letters: 0.00123456 as 0.00123."""
    if isinstance(value, str):
        number = _figure(value)
        return value if number is None or value.lstrip("-").isdigit() else f"{number:.3g}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
