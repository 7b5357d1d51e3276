"""Learning curves of a run, drawn from its history.csv."""

import csv
import io
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bintally import files
from bintally.errors import RunError
from bintally.report.page import COLOURS, add_legend, figure


def read_history(path: Path) -> list[dict[str, float]]:
    """One dictionary an epoch, column → figure.

    Raises:
        RunError: the file is missing or is no history.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} is no history of a training: {error}") from error
    if not rows or not rows[0].keys() >= _NEEDED:
        raise RunError(f"{path} is no history of a training: it needs the columns {', '.join(sorted(_NEEDED))}")
    return rows


def curves(history: Path) -> Figure:
    """Loss, accuracy and error over the epochs, of the training part and of the validation part.

    Args:
        history: a run's history.csv.

    Raises:
        RunError: see `read_history`.
    """
    rows = read_history(history)
    epochs = [row["epoch"] for row in rows]
    made, (left, middle, right) = figure(10.5, 3.0, columns=3)
    best = min(rows, key=lambda row: row["validation_nll"])["epoch"]
    marker = "o" if len(rows) == 1 else ""
    for ax, title, lines in (
        (left, "negative log-likelihood", (("train_nll", "training"), ("validation_nll", "validation"))),
        (
            middle,
            "accuracy",
            (
                ("train_accuracy", "training"),
                ("validation_accuracy", "validation"),
                ("validation_within_one", "validation, within one"),
            ),
        ),
        (
            right,
            "error in items, validation",
            (("validation_rmse", "RMSE, likeliest"), ("validation_rmse_expected", "RMSE, expected")),
        ),
    ):
        for (column, label), colour in zip(lines, COLOURS, strict=False):
            if column in rows[0]:
                ax.plot(epochs, [row[column] for row in rows], label=label, color=colour, marker=marker)
        ax.axvline(best, color=COLOURS[5], linewidth=0.8, linestyle=":")
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        add_legend(ax)
    return made


def write_curves(history: Path, to: Path) -> None:
    """Draws `curves` into a PNG file, on white. Raises RunError when there is no history."""
    out = io.BytesIO()
    curves(history).savefig(out, format="png", dpi=120, facecolor="white", metadata={"Software": None})
    files.write_bytes(to, out.getvalue())


_NEEDED = {"epoch", "train_nll", "validation_nll", "train_accuracy", "validation_accuracy"}
