"""What is told of a run that was made of others."""

from typing import TYPE_CHECKING

from bintally.cli import console

if TYPE_CHECKING:
    from bintally.learn.combine import Combined


def tell_combined(made: "Combined", num_runs: int, what: str, *, as_json: bool) -> None:
    """Prints what was tried on the validation part, and what was taken.

    Args:
        made: the outcome.
        num_runs: how many runs there were to choose from.
        what: the first column's heading, such as "weights of".
        as_json: as JSON instead.
    """
    if as_json:
        outcome = {
            "run": str(made.run),
            "model_id": made.card.model_id,
            "validation": made.card.metrics.get("validation"),
            "taken": [str(run) for run in made.taken],
        }
        console.out_json(outcome)
        return
    rows = [
        [" + ".join(run.name for run in those), f"{one['nll']:.4f}", f"{one['accuracy']:.1%}", f"{one['rmse']:.2f}"]
        for those, one in made.tried
        if one
    ]
    if rows:
        console.out_table("on the validation part", [what, "negative log-likelihood", "accuracy", "RMSE"], rows)
    console.out(f"{made.run}: {len(made.taken)} of {num_runs} runs; next: bintally evaluate {made.run}")
