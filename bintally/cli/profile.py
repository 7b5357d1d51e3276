"""The verb `profile`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from bintally.cli import console

commands = typer.Typer()

PAGE_FILE = "profile.html"


@commands.command()
def profile(
    recipe: Annotated[
        str, typer.Argument(help="A recipe that comes with bintally, or a TOML file.", show_default=False)
    ],
    manifest: Annotated[
        Path, typer.Argument(help="What `bintally split` wrote, or the folder that it lies in.", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="Folder for figures, page and trace.", show_default=False)],
    steps: Annotated[int | None, typer.Option(help="Steps that are measured. Default: 30.")] = None,
    epoch: Annotated[
        str | None,
        typer.Option(help='"first" reads and decodes photos; "later" (the default) takes them as later epochs do.'),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    rules: Annotated[
        Path | None, typer.Option(help="Thresholds of the profiler rules, as TOML. Default: the familiar.")
    ] = None,
    no_try: Annotated[bool, typer.Option("--no-try", help="Say what would help, but do not try it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything found as JSON.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in --set train.batch_size=16.")
    ] = None,
) -> None:
    """Measure where a training step's time goes, and try what should make it faster.

    Runs some steps of the training itself, on some of its photos; nothing is trained that stays. Writes profile.json,
    a page, one JSON file a profiler rule, and a trace for chrome://tracing or Perfetto.

    Example: bintally profile seed bins/split.parquet --to runs/profile
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is loaded: else its profiler talks

    from bintally import files
    from bintally.data.manifest import read_manifest
    from bintally.learn.measure import ProfileSettings
    from bintally.learn.profile import profile as profile_recipe
    from bintally.learn.profiler_rules import load_profiler_rules
    from bintally.learn.recipe import read_recipe
    from bintally.report import profile as profile_page
    from bintally.settings import fill, parse_assignments

    tables: dict[str, dict[str, Any]] = {
        table: dict(keys) for table, keys in parse_assignments(assignments or []).items()
    }
    own = dict(tables.pop("profile", {}))
    own |= {key: value for key, value in {"steps": steps, "epoch": epoch}.items() if value is not None}
    if no_try:
        own["tries"] = 0
    if device is not None:
        tables.setdefault("train", {})["device"] = device
    how = fill(ProfileSettings, "profile", flags=own)
    asked = read_recipe(recipe, tables)
    judged = load_profiler_rules(rules)
    split = read_manifest(manifest / "split.parquet" if manifest.is_dir() else manifest)
    found = profile_recipe(split, asked, to, how, rules=judged, progress=console.Bar())
    files.write_text(to / PAGE_FILE, profile_page.page(Path(recipe).stem, found))
    if as_json:
        console.out_json(found)
        return
    console.out(found["headline"])
    speed = (
        f"{found['photos_per_second']:,.1f} photos/s, {found['measured_steps']} steps of {found['batch_size']} photos"
    )
    console.out_table(
        f"{speed}; batches from {found['source']}", ["phase", "ms a step", "share"], profile_page.phase_rows(found)
    )
    for one in [*found["advice"], *([found["together"]] if found["together"] else [])]:
        console.out(one["line"])
    for name, verdict in found["rules"].items():
        for finding in verdict["Details"]["findings"][:1]:
            console.out(f"{name}: {finding['where']}: {finding['message']}")
    console.out(f"page: {to / PAGE_FILE}")
