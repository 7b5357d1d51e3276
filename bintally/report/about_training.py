"""The middle chapters of a report: tuning, learning curves, what the debug rules and the profiler found."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bintally.report import page, profile, tune, watch
from bintally.report.curves import curves
from bintally.report.document import (
    Block,
    Bullets,
    Heading,
    Missing,
    Paragraph,
    Plot,
    Plots,
    Section,
    Tiles,
    plots,
    table,
)
from bintally.report.gather import HISTORY_FILE, PROFILE, SPLIT_FILE, WATCH, Found, Material

_TRIALS = 10
_TUNING_PLOTS = 4
_OPERATORS = 6
_ROWS = 12
_WATCH_PLOTS = 4
_PROFILE_PLOTS = 4


def _split(material: Material) -> str:
    """What to train on again; a run that was refit has joined two parts of it."""
    return "SPLIT" if "refit" in material.about else str(material.run / SPLIT_FILE)


def tuning(material: Material) -> Section:
    """What the trials found, and whether the winner is more than luck."""
    found = material.tune
    if found is None:
        jobs = [one for one in material.jobs if one.get("kind") == "tuning"]
        if jobs:
            return _section("Tuning", *(block for one in jobs for block in _managed(one)))
        run = material.run
        command = f"bintally tune RECIPE {_split(material)} --to TUNING && bintally report {run} --tune TUNING"
        return _section("Tuning", Missing(text="No tuning was done, or none was named.", command=command))
    states = ", ".join(f"{num:,} {state}" for state, num in found["states"].items())
    verdict = found["verdict"]
    said = f"{verdict['said']}." if verdict else "The best trials were not trained again with other seeds."
    within = verdict is None or verdict["within_noise"]
    blocks: list[Block] = [
        Paragraph(
            text=f"{sum(found['states'].values()):,} trials ({states}) in {duration(found.get('seconds'))}, judged by "
            f"{found['objective']} on the validation part ({found['better']} is better). The test part was not looked at."
        ),
        Paragraph(text=said[:1].upper() + said[1:], tone="warn" if within else "good"),
        table(["setting", "from", "to or choices", "scale", "best"], _space(found), "What was searched", words=5),
    ]
    if verdict and verdict["candidates"]:
        rows = tune.candidates(verdict)
        columns = ["trained again with other seeds", "mean", "spread", "each seed", "failed"]
        blocks.append(table(columns, rows))
    names = [one["name"] for one in found["space"]]
    blocks.append(plots(tune.plots(found, material.trials, names)[:_TUNING_PLOTS]))
    columns, lines = tune.trials_table(found, material.trials, _TRIALS)
    blocks.append(table(columns, lines, f"The best {len(lines)} of the trials"))
    return _section("Tuning", *blocks)


def _space(found: Found) -> Iterator[list[str]]:
    best = found["best"]["values"]
    for one in found["space"]:
        name = one["name"]
        chosen = tune.short(best[name]) if name in best else "as it was"
        if one["choices"]:
            yield [name, "", ", ".join(tune.short(choice) for choice in one["choices"]), "", chosen]
        else:
            scale = "logarithmic" if one["log"] else "linear"
            yield [name, tune.short(one["low"]), tune.short(one["high"]), scale, chosen]


def _managed(job: Found) -> Iterator[Block]:
    """A managed tuning job: its trainings as the service lists them, the best first."""
    trainings = job["trainings"]
    metric = next((one["metric"] for one in trainings if one["metric"]), "the objective")
    ended = Counter(one["status"] for one in trainings)
    states = ", ".join(f"{num} {status}" for status, num in sorted(ended.items()))
    yield Paragraph(
        text=f"The managed tuning job `{job['name']}` is {job['status']}: {len(trainings)} trainings ({states}), judged by "
        f"`{metric}`. The best is `{job['best']}`. No training was repeated with another seed, so that its lead may be luck."
    )
    names = sorted({name for one in trainings for name in one["tuned"]})
    rows = []
    for place, one in enumerate(trainings[:_TRIALS], start=1):
        tuned = (tune.short(one["tuned"].get(name, "–").strip('"')) for name in names)
        rows.append([f"{place}", page.number(one["value"], 4), *tuned, one["status"]])
    yield table(["place", metric, *names, "ended"], rows, "The best of the trainings")
    done = [one for one in trainings if one["value"] is not None]
    made = [plot for name in names if (plot := _against(name, metric, done))]
    if made:
        yield plots(made)


def _against(name: str, metric: str, trainings: Sequence[Found]) -> dict[str, str] | None:
    """A tuned setting against the objective; None for settings that are no figures."""
    try:
        points = [(float(one["tuned"][name]), one["value"]) for one in trainings]
    except (KeyError, ValueError):
        return None
    if len({x for x, _ in points}) < 2:
        return None
    fig, (ax,) = page.figure(4.8, 2.8)
    ax.scatter([x for x, _ in points], [y for _, y in points], s=16)
    low, high = min(x for x, _ in points), max(x for x, _ in points)
    if low > 0 and high > 8 * low:
        ax.set_xscale("log")
    ax.set(xlabel=name, ylabel=metric)
    return {"uri": page.figure_uri(fig), "caption": f"{metric} of each training, by {name}"}


def training(material: Material) -> Section:
    """How the training went, epoch by epoch."""
    about, history = material.about, material.history
    blocks: list[Block] = []
    if about["status"] != "finished":
        why = f": {about['why']}" if about.get("why") else ""
        tone: Any = "bad" if about["status"] == "failed" else "warn"
        blocks.append(Paragraph(text=f"This training is {about['status']}{why}.", tone=tone))
    if not history:
        command = f"bintally train {_split(material)} --recipe RECIPE --to {material.run}"
        return _section("Training", *blocks, Missing(text="No epoch is finished yet.", command=command))
    best = min(history, key=lambda row: row["validation_nll"])
    again = about.get("refit") if about["status"] == "finished" else None
    kept = "was the best" if again else "is kept"
    before = (about.get("seconds") or 0.0) - (again["seconds"] if again else 0.0)
    seconds = duration(before or sum(row.get("seconds", 0.0) for row in history))
    right = page.percent(best["validation_accuracy"])
    blocks.append(
        Paragraph(
            text=f"{len(history):,} epochs in {seconds} on {about.get('device', '?')}. Epoch {best['epoch']:.0f} {kept}: "
            f"{right} right on the validation part, negative log-likelihood {best['validation_nll']:.3f} "
            f"({best['train_nll']:.3f} on the training photos)."
        )
    )
    if again:
        blocks.append(
            Paragraph(
                text=f"The model was then trained anew on {again['photos']:,} photos, those of training and validation, over "
                f"{again['epochs']:,} epochs in {duration(again['seconds'])}: what is said of the validation part is of the "
                "one before."
            )
        )
    made = curves(material.run / HISTORY_FILE)
    blocks.append(
        Plots(
            plots=(Plot(uri=page.figure_uri(made), caption="Learning curves; dotted: the epoch that is kept"),),
            wide=True,
        )
    )
    columns = ["epoch", *(name for _, name, _ in _COLUMNS)]
    some = _some(history, best)
    lines = [[f"{row['epoch']:.0f}", *(_cell(row.get(key), share) for key, _, share in _COLUMNS)] for row in some]
    whole = len(some) == len(history)
    blocks.append(table(columns, lines, "Every epoch" if whole else f"Some of the {len(history):,} epochs"))
    return _section("Training", *blocks)


_COLUMNS = (
    ("train_nll", "log-loss, train", False),
    ("validation_nll", "log-loss, validation", False),
    ("train_accuracy", "accuracy, train", True),
    ("validation_accuracy", "accuracy, validation", True),
    ("validation_within_one", "within one", True),
    ("validation_rmse", "RMSE", False),
)


def _some(history: Any, best: Any) -> list[Any]:
    """At most a dozen rows: the first, the last, the best, and others evenly between."""
    if len(history) <= _ROWS:
        return list(history)
    places = {round(place * (len(history) - 1) / (_ROWS - 2)) for place in range(_ROWS - 1)}
    return [row for place, row in enumerate(history) if place in places or row is best]


def _cell(value: float | None, share: bool) -> str:
    return page.percent(value) if share else page.number(value, 3)


def watching(material: Material) -> Section:
    """What the debug rules found in the watched training."""
    title = "Debugging"
    if not material.verdicts:
        command = f"bintally train {_split(material)} --recipe RECIPE --watch --to WATCHED"
        return _section(title, Missing(text="This training was not watched.", command=command))
    fired = {name: one for name, one in material.verdicts.items() if one["RuleTriggered"]}
    quiet = sorted(material.verdicts.keys() - fired.keys())
    blocks: list[Block] = [
        Paragraph(
            text="The training was watched: gradients, weights, activations, inputs and losses were read at "
            f"{len(material.checks):,} steps and judged by {len(material.verdicts)} rules; {len(fired) or 'none'} of them "
            f"fired. Quiet: {', '.join(quiet) or 'none'}."
        )
    ]
    for name, one in fired.items():
        first = one["Details"]["findings"][0]
        blocks += [
            Heading(text=name),
            Paragraph(
                text=f"{one['Violations']:,} finding{'' if one['Violations'] == 1 else 's'} in "
                f"{one['Datapoints']:,} looks; the first at step {first['step']:,}, "
                f"`{first['where']}`: {first['message']}. {one['Details']['advice']}"
            ),
        ]
    made = watch.plots(material.checks, material.validations)
    if made:
        blocks.append(plots(made[:_WATCH_PLOTS]))
    blocks.append(Paragraph(text=f"All findings: `{material.run / WATCH / 'watch.html'}`.", tone="soft"))
    return _section(title, *blocks)


def profiling(material: Material) -> Section:
    """Where a step's time goes, and what would make it faster."""
    found, title = material.profile, "Profiling"
    if found is None:
        run = material.run
        command = f"bintally profile RECIPE {_split(material)} --to {run / PROFILE}"
        return _section(title, Missing(text="The training was not profiled.", command=command))
    blocks: list[Block] = [
        Paragraph(text=found["headline"]),
        Tiles(pairs=tuple((label, value) for value, label in profile.tiles(found))),
        table(
            ["phase", "ms a step", "share"],
            profile.phase_rows(found),
            f"{found['measured_steps']} steps of {found['batch_size']} photos on {found['device']} in {found['precision']}",
        ),
    ]
    advice = [one["line"] for one in found["advice"]]
    if found["together"]:
        advice.append(f"Together: {found['together']['line']}")
    if advice:
        blocks += [Heading(text="What to change"), Bullets(items=tuple(advice))]
    fired = [
        f"{name}: {one['Details']['findings'][0]['message']}. {one['Details']['advice']}"
        for name, one in found["rules"].items()
        if one["RuleTriggered"] and one["Details"]["findings"]
    ]
    blocks.append(Heading(text="Profiler rules"))
    if fired:
        blocks.append(Bullets(items=tuple(fired)))
    silent = [name for name, one in found["rules"].items() if not one["RuleTriggered"]]
    blocks.append(
        Paragraph(text=f"Quiet, or with nothing to judge here: {', '.join(silent) or 'none'}.", tone="soft")
    )
    made = profile.plots(found)
    if made:
        blocks.append(plots(made[:_PROFILE_PLOTS]))
    if found["operators"]:
        rows = [
            [f"`{one['name']}`", page.number(one["cpu_ms"]), page.percent(one["share"])]
            for one in found["operators"][:_OPERATORS]
        ]
        blocks.append(table(["operator", "ms a step", "share"], rows, "Operators that take most of a step"))
    return _section(title, *blocks)


def _section(title: str, *blocks: Block) -> Section:
    return Section(anchor=title.lower(), title=title, blocks=blocks)


def duration(seconds: float | None) -> str:
    """A duration for people: "17 s", "4.2 minutes", "3.1 hours"."""
    if seconds is None:
        return "an unknown time"
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.1f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"
