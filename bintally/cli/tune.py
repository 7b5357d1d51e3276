"""The verbs `tune` and `compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bintally.cli import console
from bintally.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from bintally.learn.space import Space

commands = typer.Typer()

PAGE = "trials.html"
SHOWN = 10
NAMES = {
    "accuracy": "accuracy",
    "within_one": "within one",
    "nll": "negative log-likelihood",
    "rmse": "RMSE",
    "rmse_expected": "RMSE by the expected count",
    "mae": "MAE",
    "brier": "Brier score",
}


@commands.command()
def tune(
    recipe: Annotated[
        str, typer.Argument(help="A recipe that comes with bintally, or a TOML file.", show_default=False)
    ],
    manifest: Annotated[
        Path, typer.Argument(help="What `bintally split` wrote, or the folder that it lies in.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Folder for all that comes of the tuning.", show_default=False)],
    space: Annotated[
        str | None,
        typer.Option(help="What varies: a TOML file, or one that comes with bintally. Default: RECIPE.space.toml."),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Trainings in all, with those of before.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no trial is started.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train at once; they share the cores.")] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, random or grid.")] = None,
    pruner: Annotated[str | None, typer.Option(help="asha, hyperband or none.")] = None,
    objective: Annotated[str | None, typer.Option(help="Figure of the validation part: nll, accuracy …")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each trial. Default: the recipe's.")] = None,
    top: Annotated[int | None, typer.Option(help="How many of the best are trained again.")] = None,
    repeat: Annotated[int | None, typer.Option(help="With how many other seeds; 0 for none.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the sampler.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set train.epochs=5 or tune.reduction=4.")
    ] = None,
) -> None:
    """Look for better settings of a recipe: many short trainings, judged on the validation part alone.

    What frozen layers make of the photos is computed once for all trials. The best trials are trained again with
    other seeds, beside the recipe as it was, and the outcome says whether the difference is more than noise. The same
    command goes on after any stop. Writes best.toml (for `bintally train --recipe`), trials.csv, tune.json and a page.

    Example: bintally tune seed bins/split.parquet --to tuned --trials 30
    """
    from bintally.learn.recipe import read_recipe
    from bintally.settings import fill, parse_assignments

    try:
        from bintally.learn.study import TuneSettings
        from bintally.learn.tune import BEST_FILE
        from bintally.learn.tune import tune as run_tuning
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise MissingExtraError("optuna", "tune") from error
    from bintally.report import tune as tune_page

    tables: dict[str, dict[str, Any]] = {
        table: dict(keys) for table, keys in parse_assignments(assignments or []).items()
    }
    flags = {"trials": trials, "timeout": timeout, "workers": workers, "sampler": sampler, "pruner": pruner}
    flags |= {"objective": objective, "epochs": epochs, "top": top, "repeat": repeat, "seed": seed}
    given = tables.pop("tune", {}) | {key: value for key, value in flags.items() if value is not None}
    wishes = fill(TuneSettings, "tune", flags=given)
    asked = read_recipe(recipe, tables)
    found = run_tuning(
        asked,
        find_space(space, recipe),
        manifest / "split.parquet" if manifest.is_dir() else manifest,
        to,
        wishes,
        source=_source(recipe, tables),
        progress=console.Bar(),
    )
    tune_page.write_page(to, to / PAGE)
    if as_json:
        console.out_json(found)
        return
    columns, lines = tune_page.trials_table(found, tune_page.read_trials(to), SHOWN)
    states = ", ".join(f"{num:,} {state}" for state, num in found["states"].items())
    console.out_table(f"the best of the trials ({states})", columns, lines)
    if found["verdict"]:
        console.out(f"{found['verdict']['said']}.")
    console.out(f"page in {to / PAGE}; next: bintally train {manifest} --recipe {to / BEST_FILE} --to runs/tuned")


@commands.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run that `bintally evaluate` has scored.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another one, scored on the same photos.", show_default=False)],
    part: Annotated[str | None, typer.Option(help="Whose photos: test (the default), validation …")] = None,
    up_to: Annotated[
        int | None, typer.Option(help="Only photos with at most so many items, and both are told so.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set compare.resamples=5000.")
    ] = None,
) -> None:
    """Compare two evaluated runs photo by photo: differences with intervals over groups drawn for both.

    Where an interval leaves out 0, the runs differ by more than the luck of which photos were scored.

    A counter of all bins is held against one of 0-5 by --up-to 5.

    Example: bintally compare runs/tuned runs/seed
    """
    from bintally.learn.compare import CompareSettings
    from bintally.learn.compare import compare as compare_runs
    from bintally.settings import check_tables, fill, parse_assignments

    tables = parse_assignments(assignments or [])
    check_tables(tables, {"compare": CompareSettings}, "--set")
    settings = fill(CompareSettings, "compare", flags={**tables.get("compare", {}), "part": part, "up_to": up_to})
    found = compare_runs(first, second, settings)
    if as_json:
        console.out_json(found)
        return
    rows = []
    for name, one in found["figures"].items():
        better = {"first": str(first), "second": str(second)}.get(one["better"], one["better"])
        values = [f"{one[key]:.4f}" for key in ("first", "second")]
        between = f"{one['low']:+.4f} to {one['high']:+.4f}"
        rows.append([NAMES[name], *values, f"{one['difference']:+.4f}", between, better])
    few = "" if found["up_to"] is None else f" of at most {found['up_to']} items"
    title = f"{found['num_photos']:,} {found['part']} photos{few} in {found['num_groups']:,} groups"
    columns = ["", first.name, second.name, "difference", f"{found['level']:.0%} interval", "better"]
    console.out_table(title, columns, rows)


def find_space(name: str | None, recipe: str) -> "Space":
    """The space by its file, by the name of one that comes with bintally, or the one beside the recipe."""
    from importlib import resources

    from bintally.learn.space import read_space

    shipped = resources.files("bintally") / "recipes"
    known = sorted(
        one.name.removesuffix(".space.toml") for one in shipped.iterdir() if one.name.endswith(".space.toml")
    )
    wanted = name or recipe
    if wanted in known:
        with resources.as_file(shipped / f"{wanted}.space.toml") as path:
            return read_space(path)
    path = Path(name) if name else Path(recipe.removesuffix(".toml") + ".space.toml")
    if not path.is_file():
        raise SettingsError(
            f"there is no search space {str(path)!r}: take --space {', '.join(known)}, or a TOML file"
        )
    return read_space(path)


def _source(recipe: str, flags: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What best.toml starts from: the recipe's own lines, and what was set on the command line."""
    from importlib import resources

    from bintally.learn.recipe import read_recipe, recipe_names
    from bintally.settings import read_toml

    if recipe in recipe_names():
        with resources.as_file(resources.files("bintally") / "recipes" / f"{recipe}.toml") as path:
            tables = read_toml(path)
    else:
        tables = read_toml(Path(recipe))
    checked = read_recipe(recipe, flags).tables()  # a flag's value in its own kind, no longer as text
    for table, keys in flags.items():
        tables.setdefault(table, {}).update({key: checked[table][key] for key in keys})
    return tables
