"""The page of an evaluation: figures with intervals, plots, published results and the worst mistakes as pictures."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bintally import files
from bintally.report import page
from bintally.report.written import read_written

PHOTO_SIDE = 200

FIGURES = (
    ("accuracy", "accuracy", "share"),
    ("within_one", "within one", "share"),
    ("rmse", "RMSE, likeliest count", "items"),
    ("rmse_expected", "RMSE, expected count", "items"),
    ("mae", "MAE, likeliest count", "items"),
    ("mae_expected", "MAE, expected count", "items"),
    ("bias_expected", "bias of the expected count", "items"),
    ("nll", "negative log-likelihood", "nats"),
    ("brier", "Brier score", "0-2"),
)
"""Key, name and unit of each figure, in the order of the tables."""

_BLIND_BY_MAJORITY = {"accuracy", "within_one", "rmse", "mae"}


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What `bintally evaluate` wrote into an evaluation folder (RUN/evaluation).

    Raises:
        RunError: there is none, or it is damaged.
    """
    return read_written(folder / "evaluation.json", "evaluate")


def write_page(folder: Path, to: Path) -> None:
    """Writes the page of an evaluation folder (RUN/evaluation) as one self-contained HTML file.

    Raises:
        RunError: the folder holds no evaluation.
    """
    files.write_text(to, evaluation_page(read_evaluation(folder), _history(folder.parent / "history.csv")))


def evaluation_page(found: dict[str, Any], history: list[dict[str, float]] | None = None) -> str:
    """The page.

    Args:
        found: the contents of evaluation.json; photos are read from where it says.
        history: rows of the run's history.csv, when there is one.
    """
    own = found["scopes"][0]
    best = best_of(own)
    names = found["model"]["names"]
    lowest = found["model"]["lowest"]
    return page.render(
        "evaluation.html",
        found=found,
        run=Path(found["folder"]).name,
        own=own,
        tiles=tiles(own),
        scopes=[(scope_name(block), figure_rows(block)) for block in found["scopes"]],
        honesty=honesty_rows(own),
        published=published_rows(found),
        counts=count_rows(found, best["per_count"][lowest:], names),
        plots=plots(own, names, lowest),
        curves=_curves(history or []),
        coverage=[(share, page.percent(value)) for share, value in best["coverage"]["accuracy_at"].items()],
        worst=[_mistake(one, found) for one in found["worst"]],
        side=PHOTO_SIDE,
        split=split_text(found),
    )


def best_of(block: dict[str, Any]) -> dict[str, Any]:
    """A scope's calibrated figures, or the raw ones where no temperature was fitted."""
    best: dict[str, Any] = block["calibrated"] or block["raw"]
    return best


def summary_table(found: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The figures as small tables for a terminal: title, columns, rows; one table a scope."""
    tables = []
    for block in found["scopes"]:
        title = f"{block['num_photos']:,} photos of {found['part']}, counts {block['counts']}, {block['how']}"
        rows = [[*row[:3], row[3].split(" (")[0], row[4]] for row in figure_rows(block)]
        error = best_of(block)["calibration_error"]["width"]
        chance = f"{error['chance_mean']:.3f} by chance"
        rows.append(["calibration error", f"{error['error']:.3f}", chance, "", ""])
        tables.append((title, ["figure", "counter", "95 % interval", "never looks", "difference"], rows))
    return tables


def figure_text(value: float, unit: str) -> str:
    """A figure in its unit: shares as per cent, others with two digits."""
    return page.percent(value) if unit == "share" else page.number(float(value))


def interval_text(one: dict[str, float], unit: str) -> str:
    """The two ends of an interval."""
    if unit == "share":
        return f"{100 * one['low']:.1f} to {100 * one['high']:.1f} %"
    return f"{one['low']:.2f} to {one['high']:.2f}"


def scope_name(block: dict[str, Any]) -> str:
    """A scope's title."""
    return f"Counts {block['counts']}: {block['how']}"


def tiles(own: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of the headline figures of a scope, each with its interval."""
    figures = best_of(own)["figures"]
    made = []
    for key, name, unit in FIGURES:
        if key in {"accuracy", "within_one", "rmse", "rmse_expected", "nll"}:
            made.append((f"{name}, {interval_text(figures[key], unit)}", figure_text(figures[key]["value"], unit)))
    error = best_of(own)["calibration_error"]["width"]
    made.append((f"calibration error; {error['chance_mean']:.3f} by chance alone", f"{error['error']:.3f}"))
    return made


def figure_rows(block: dict[str, Any]) -> list[list[str]]:
    """A row a figure: name, counter, interval, the counter that never looks, difference, interval of that."""
    figures, blind, gain = best_of(block)["figures"], block["blind"]["figures"], block["gain"]
    rows = []
    for key, name, unit in FIGURES:
        by = f" ({'majority' if key in _BLIND_BY_MAJORITY else 'shares'})"
        points = gain[key]
        change = f"{100 * points['value']:+.1f} %" if unit == "share" else f"{points['value']:+.2f}"
        rows.append(
            [
                name,
                figure_text(figures[key]["value"], unit),
                interval_text(figures[key], unit),
                figure_text(blind[key], unit) + by,
                change,
                interval_text(points, unit),
            ]
        )
    return rows


def honesty_rows(own: dict[str, Any]) -> list[list[str]]:
    """How honest the probabilities of a scope are: a name, then a column as trained and one with temperature."""
    columns = [one for one in (own["raw"], own["calibrated"]) if one is not None]
    rows = [
        ["negative log-likelihood", *(page.number(one["figures"]["nll"]["value"], 3) for one in columns)],
        ["Brier score", *(page.number(one["figures"]["brier"]["value"], 3) for one in columns)],
        ["mean probability of the likeliest count", *(page.percent(one["mean_confidence"]) for one in columns)],
        ["accuracy", *(page.percent(one["figures"]["accuracy"]["value"]) for one in columns)],
    ]
    for bins, name in (("width", "equal spans"), ("mass", "equal numbers")):
        errors = [one["calibration_error"][bins] for one in columns]
        rows.append([f"calibration error, {name}", *(page.number(error["error"], 3) for error in errors)])
        chance = (f"{error['chance_mean']:.3f}, 95 % up to {error['chance_high']:.3f}" for error in errors)
        rows.append(["… of a perfectly calibrated counter, by chance", *chance])
    return rows


def published_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """This run and the published results: who, counts, photos, model, split, accuracy, RMSE."""
    split = found["manifest"]["split"] or {}
    how = "photos shuffled: siblings leak" if split.get("shuffled") else "by group: no bin on both sides"
    rows = []
    for block in found["scopes"]:
        figures = best_of(block)["figures"]
        rows.append(
            [
                f"this run, {block['how']}",
                block["counts"],
                f"{block['num_photos']:,} photos of the {found['part']} part",
                found["model"]["architecture"],
                how if split else "not split by bintally",
                f"{page.percent(figures['accuracy']['value'])} ({_short(figures['accuracy'], 100, 0)})",
                f"{figures['rmse']['value']:.2f} ({_short(figures['rmse'], 1, 2)})",
            ]
        )
    for one in found["published"]:
        low, high = one["accuracy"]
        accuracy = page.percent(low) if low == high else f"{100 * low:.0f} to {100 * high:.0f} %"
        rows.append(
            [one["who"], one["counts"], one["data"], one["model"], one["split"], accuracy, page.number(one["rmse"])]
        )
    return rows


def _short(one: dict[str, float], scale: int, digits: int) -> str:
    return f"{scale * one['low']:.{digits}f}-{scale * one['high']:.{digits}f}"


def count_rows(found: Mapping[str, Any], per_count: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Columns and rows of the table by true count, beside a published one where one fits."""
    counts = found["scopes"][0]["counts"]
    beside = next((one for one in found["published"] if one["per_count"] and one["counts"] == counts), None)
    rows = []
    for place, row in enumerate(per_count):
        cells = [
            names[row["count"]],
            page.number(row["num_photos"]),
            page.number(row["num_said"]),
            page.percent(row["accuracy"]),
            page.percent(row["precision"]),
            page.number(row["mean_expected"]),
        ]
        rows.append([*cells, page.percent(beside["per_count"][place])] if beside else cells)
    columns = ["true count", "photos", "times said", "accuracy", "precision", "mean expected count"]
    return {"columns": [*columns, f"accuracy, {beside['who']}"] if beside else columns, "rows": rows}


def _mistake(one: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    try:
        photo = (Path(found["manifest"]["root"]) / one["uri"]).read_bytes()
    except OSError:
        photo = b""  # moved since: the page shows a crossed square
    names = found["model"]["names"]
    lowest = found["model"]["lowest"]
    label = min(one["label"], len(names) - 1)
    bars = [
        {
            "name": names[count],
            "percent": round(100 * share, 1),
            "kind": "label" if count == label else "said" if count == one["likeliest"] else "",
        }
        for count, share in enumerate(one["probabilities"])
        if count >= lowest
    ]
    return {**one, "uri": page.photo_uri(photo, PHOTO_SIDE), "said": names[one["likeliest"]], "bars": bars}


def split_text(found: dict[str, Any]) -> str:
    """How the photos were split, in a sentence."""
    split = found["manifest"]["split"]
    if split is None:
        return "The manifest has no split."
    how = (
        "photo by photo, shuffled, so that photos of one bin lie on both sides"
        if split["shuffled"]
        else "by group: photos of one bin, taken one after the other, are all in one part"
    )
    sizes = ", ".join(f"{number:,} {part}" for part, number in split["photos"].items())
    return f"Split {how}; counts {split['counts']}, seed {split['seed']}: {sizes} photos."


def plots(own: dict[str, Any], names: list[str], lowest: int) -> list[dict[str, str]]:
    """Confusion, reliability and coverage of a scope: "uri" and "alt" of each plot."""
    best = best_of(own)
    confusion = _confusion_plot(np.array(best["confusion"])[lowest:, lowest:], names[lowest:])
    return [
        {"uri": confusion, "alt": "confusion matrix"},
        {"uri": _reliability_plot(own), "alt": "reliability before and after the temperature"},
        {"uri": _coverage_plot(own), "alt": "accuracy against coverage"},
    ]


def _confusion_plot(matrix: np.ndarray[Any, np.dtype[np.int64]], names: list[str]) -> str:
    side = min(4.6, 1.6 + 0.5 * len(names))
    fig, (ax,) = page.figure(side + 0.6, side)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.grid(visible=False)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("likeliest count")
    ax.set_ylabel("true count")
    ax.set_title("Of each true count, per cent given each count")
    for row in range(len(names)):
        for column in range(len(names)):
            if matrix[row, column]:
                ink = "white" if shares[row, column] > 0.5 else "#1f2328"
                text = f"{100 * shares[row, column]:.0f}"
                ax.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    return page.figure_uri(fig)


def _reliability_plot(own: dict[str, Any]) -> str:
    fig, (ax,) = page.figure(4.8, 4.2)
    ax.plot([0, 1], [0, 1], color=page.INK, linewidth=1, linestyle=":", label="honest")
    for key, name in (("raw", "as trained"), ("calibrated", "with temperature")):
        if own[key] is not None:
            curve = own[key]["reliability"]
            ax.plot(
                [one["confidence"] for one in curve],
                [one["accuracy"] for one in curve],
                marker="o",
                markersize=3.5,
                label=name,
            )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("probability of the likeliest count")
    ax.set_ylabel("share right")
    ax.set_title("Reliability, spans of equally many photos")
    page.add_legend(ax, loc="upper left")
    return page.figure_uri(fig)


def _coverage_plot(own: dict[str, Any]) -> str:
    fig, (ax,) = page.figure(4.8, 4.2)
    kept = best_of(own)["coverage"]
    curve = np.array(kept["curve"])
    ax.plot(100 * curve[:, 0], 100 * curve[:, 1], label="surest first")
    ax.axhline(100 * curve[-1, 1], color=page.INK, linewidth=1, linestyle=":", label="all photos")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 102)
    ax.set_xlabel("photos answered, %")
    ax.set_ylabel("accuracy on them, %")
    ax.set_title(f"Accuracy against coverage (mean risk {kept['risk_area']:.3f})")
    page.add_legend(ax, loc="lower left")
    return page.figure_uri(fig)


def _curves(history: list[dict[str, float]]) -> str | None:
    """Losses and accuracies by epoch, from whatever columns of that kind the run's history has."""
    if len(history) < 2:
        return None
    kinds = [
        (title, [name for name in history[0] if any(part in name for part in parts)])
        for title, parts in (("loss", ("loss", "nll")), ("accuracy", ("accuracy",)))
    ]
    kinds = [(title, names) for title, names in kinds if names]
    if not kinds or "epoch" not in history[0]:
        return None
    fig, axes = page.figure(4.8 * len(kinds), 3.2, columns=len(kinds))
    for ax, (title, names) in zip(axes, kinds, strict=True):
        for name in names:
            ax.plot([row["epoch"] for row in history], [row[name] for row in history], label=name.replace("_", " "))
        ax.set_xlabel("epoch")
        ax.set_title(title)
        page.add_legend(ax)
    return page.figure_uri(fig)


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: _number(value) for key, value in row.items() if key} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")  # a gap in the plot
