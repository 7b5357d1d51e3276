"""The last chapters of a report: results beside the published ones, photos right and wrong, what it cost, and a summary."""

from collections.abc import Iterator, Mapping
from typing import Any

from bintally.report import evaluation, page
from bintally.report.about_training import duration
from bintally.report.document import (
    Bar,
    Block,
    Bullets,
    Heading,
    Missing,
    Paragraph,
    Picture,
    Pictures,
    Plot,
    Plots,
    Section,
    Tiles,
    plots,
    table,
)
from bintally.report.gather import Found, Material

PHOTO_SIDE = 320
"""Longest side of a shown photo in pixels of the file."""

_WRONG = 12
_ITEMS = 4


def results(material: Material) -> Section:
    """The figures with intervals, beside the baselines and the published results."""
    found = material.evaluation
    if found is None:
        missing = Missing(
            text="The photos that were kept apart are not scored yet.", command=f"bintally evaluate {material.run}"
        )
        return _section("Results", missing)
    own = found["scopes"][0]
    best = evaluation.best_of(own)
    names, lowest = found["model"]["names"], found["model"]["lowest"]
    calibration = found["calibration"]
    blocks: list[Block] = [
        Tiles(pairs=tuple(evaluation.tiles(own))),
        Paragraph(
            text=f"{found['photos']['scored']:,} photos in {found['photos']['groups']:,} groups of the {found['part']} part. "
            "Intervals are 95 %, over groups of photos drawn with replacement. "
            + (
                f"Probabilities with temperature {calibration['temperature']:.2f}, fitted on {calibration['num_photos']:,} "
                "photos of the calibration part alone."
                if calibration
                else "Probabilities as trained: no temperature was fitted."
            )
        ),
    ]
    if found["warnings"]:
        blocks.append(
            Paragraph(text="To be read with this in mind: " + "; ".join(found["warnings"]) + ".", tone="warn")
        )
    blocks.append(
        Plots(
            plots=(
                Plot(
                    uri=_beside(found),
                    caption="Accuracy beside the baseline and the published results. Dots with whiskers: this run, 95 % "
                    "interval; orange: published on a split that lets siblings of test photos into training",
                ),
            ),
            wide=True,
        )
    )
    columns = ["who", "counts", "photos", "model", "split", "accuracy", "RMSE"]
    blocks.append(table(columns, evaluation.published_rows(found), "Beside the published results", words=5))
    for block in found["scopes"]:
        columns = ["figure", "counter", "95 % interval", "never looks", "difference", "95 % interval of it"]
        blocks.append(table(columns, evaluation.figure_rows(block), evaluation.scope_name(block)))
    counts = evaluation.count_rows(found, best["per_count"][lowest:], names)
    blocks += [Heading(text="By true count"), table(counts["columns"], counts["rows"])]
    made = evaluation.plots(own, names, lowest)
    blocks.append(plots([{"uri": one["uri"], "caption": _sentence(one["alt"])} for one in made]))
    columns = ["how honest the probabilities are", "as trained", *(["with temperature"] if own["calibrated"] else [])]
    blocks.append(table(columns, evaluation.honesty_rows(own)))
    answered = [(share, page.percent(value)) for share, value in best["coverage"]["accuracy_at"].items()]
    blocks.append(table(["photos answered, the surest first", "accuracy on them"], answered))
    return _section("Results", *blocks)


def _beside(found: Found) -> str:
    """Accuracies as dots and spans: this run, the counter that never looks, and the published ones."""
    own = found["scopes"][0]
    lines: list[tuple[str, float, float, float | None, str]] = []
    for block in found["scopes"]:
        one = evaluation.best_of(block)["figures"]["accuracy"]
        name = f"this run, {block['counts']}"
        if name not in {line[0] for line in lines}:
            lines.append((name, one["low"], one["high"], one["value"], page.COLOURS[0]))
    blind = own["blind"]["figures"]["accuracy"]
    lines.append((f"always the majority, {own['counts']}", blind, blind, blind, page.INK))
    for one in found["published"]:
        low, high = one["accuracy"]
        colour = page.COLOURS[1] if one["leaks"] else page.COLOURS[4]
        lines.append((f"{one['who']}, {one['counts']}", low, high, low if low == high else None, colour))
    fig, (ax,) = page.figure(9.2, 0.8 + 0.34 * len(lines))
    for place, (_, low, high, value, colour) in enumerate(lines):
        ax.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
        if value is not None:
            ax.plot([100 * value], [place], marker="o", markersize=6, color=colour)
    ax.axvline(100 * blind, color=page.INK, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(lines)), [line[0] for line in lines])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=page.INK, alpha=0.2, linewidth=0.6)
    ax.set_xlabel("accuracy, %")
    return page.figure_uri(fig)


def examples(material: Material) -> Section:
    """Photos with the answers they got: picked by chance, right, and most wrong."""
    found = material.evaluation
    if found is None:
        text = "Photos with their answers need an evaluation."
        return _section("Examples", Missing(text=text, command=f"bintally evaluate {material.run}"))
    blocks: list[Block] = [
        Paragraph(
            text="Bars: the probability of each count; green is the record, red an answer that differs from it."
        )
    ]
    if "sample" not in found:
        text = "This evaluation kept its mistakes alone; a newer one keeps right answers and a sample too."
        blocks.append(Missing(text=text, command=f"bintally evaluate {material.run}"))
    for key, title, said in (
        (
            "sample",
            "By chance",
            "Photos of the test part picked by chance: what the counter's answers are usually like.",
        ),
        ("right", "Right", "Right answers, the surest of each count in turn."),
        (
            "worst",
            "Wrong",
            "Wrong answers whose record was given the least probability; some are mistakes of the record.",
        ),
    ):
        shown = [_picture(one, found, material) for one in found.get(key, ())[:_WRONG]]
        if shown:
            blocks += [Heading(text=title), Paragraph(text=said, tone="soft"), Pictures(pictures=tuple(shown))]
    return _section("Examples", *blocks)


def _picture(one: Mapping[str, Any], found: Found, material: Material) -> Picture:
    names, lowest = found["model"]["names"], found["model"]["lowest"]
    label = min(one["label"], len(names) - 1)
    bars = tuple(
        Bar(
            name=names[count],
            percent=round(100 * share, 1),
            mark="label" if count == label else "said" if count == one["likeliest"] else "",
        )
        for count, share in enumerate(one["probabilities"])
        if count >= lowest
    )
    items = [f"{item['quantity']} × {_cut(item['name'])}" for item in one["items"]]
    more = [f"and {len(items) - _ITEMS} products more"] if len(items) > _ITEMS else []
    return Picture(
        uri=page.photo_uri(material.read_photo(one["photo_id"]) or b"", PHOTO_SIDE),
        alt=f"bin {one['photo_id']}",
        title=f"{one['photo_id']}: record {one['label']}, counted {names[one['likeliest']]}",
        lines=(f"expected {one['expected']:.2f}", *(items[:_ITEMS] or ["no item on record"]), *more),
        bars=bars,
    )


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def summary(material: Material) -> tuple[Block, ...]:
    """What it comes to, before anything else."""
    return (Bullets(items=tuple(_said(material))),)


def _said(material: Material) -> Iterator[str]:
    found = material.evaluation
    if found is None:
        if material.history:
            best = min(material.history, key=lambda row: row["validation_nll"])
            yield (
                f"{page.percent(best['validation_accuracy'])} right on the validation part, by which the epoch was chosen. "
                f"The test part is not scored yet: `bintally evaluate {material.run}`."
            )
        else:
            yield f"The training is {material.about['status']}; there is no result yet."
    else:
        yield from _of_scores(found)
    if material.verdicts:
        fired = [name for name, one in material.verdicts.items() if one["RuleTriggered"]]
        yield f"Debug rules that fired: {', '.join(fired)}." if fired else "No debug rule fired in training."
    if material.tune:
        verdict = material.tune["verdict"]
        said = verdict["said"] if verdict else "its best trials were not trained again with other seeds"
        yield f"Tuning: {said}."
    if material.profile:
        yield f"Profile: {material.profile['headline']}"


def _of_scores(found: Found) -> Iterator[str]:
    own = found["scopes"][0]
    best, names = evaluation.best_of(own), found["model"]["names"]
    figures, gain = best["figures"], own["gain"]["accuracy"]
    accuracy, within = figures["accuracy"], figures["within_one"]
    yield (
        f"Of {own['num_photos']:,} {found['part']} photos the counter has {page.percent(accuracy['value'])} exactly right "
        f"(95 %: {evaluation.interval_text(accuracy, 'share')}) and {page.percent(within['value'])} within one item; RMSE "
        f"{figures['rmse']['value']:.2f} by the likeliest count, {figures['rmse_expected']['value']:.2f} by the expected one."
    )
    blind = page.percent(own["blind"]["figures"]["accuracy"])
    points = f"{100 * gain['value']:+.1f} points, 95 %: {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}"
    better = "better than" if gain["low"] > 0 else "worse than" if gain["high"] < 0 else "not told apart from"
    yield f"It is {better} a counter that never looks at the photo, which has {blind} right ({points})."
    yield from _against(found, own, accuracy)
    error = best["calibration_error"]["width"]
    honest = error["error"] <= error["chance_high"]
    yield (
        f"Its probabilities are {'as honest as so few photos can show' if honest else 'not quite honest'}: calibration error "
        f"{error['error']:.3f}, of which a perfectly honest counter would show {error['chance_mean']:.3f} by chance."
    )
    rows = [row for row in best["per_count"] if row["num_photos"]]
    if len(rows) > 1:
        easy, hard = (pick(rows, key=lambda row: row["accuracy"]) for pick in (max, min))
        yield (
            f"It is best at bins of {names[easy['count']]} ({page.percent(easy['accuracy'])} right) and worst at bins of "
            f"{names[hard['count']]} ({page.percent(hard['accuracy'])})."
        )


def _against(found: Found, own: Mapping[str, Any], accuracy: Mapping[str, float]) -> Iterator[str]:
    """The published results of the same counts, and whether their split was like ours."""
    alike = [one for one in found["published"] if one["counts"] == own["counts"]]
    shuffled = (found["manifest"]["split"] or {}).get("shuffled")
    for one in alike:
        low, high = one["accuracy"]
        theirs = page.percent(low) if low == high else f"{100 * low:.0f} to {100 * high:.0f} %"
        place = "below" if accuracy["high"] < low else "above" if accuracy["low"] > high else "level with"
        split = (
            "both splits shuffled"
            if one["leaks"] and shuffled
            else "on a shuffled split, where siblings of test photos were trained on; here none were"
            if one["leaks"]
            else "on a split that is not described"
        )
        yield f"That is {place} what {one['who']} published for {one['counts']}: {theirs} ({split}; {one['data']})."


def cost(material: Material) -> Section:
    """Time on this machine, and managed jobs with what they were billed."""
    rows = []
    about = material.about
    if about.get("seconds") is not None:
        rows.append(
            ["training", duration(about["seconds"]), f"{about.get('epochs', '?')} epochs on {about['device']}", ""]
        )
    if material.tune:
        found = material.tune
        trials = sum(found["states"].values())
        again = len(found.get("repeats") or ())
        said = f"{trials} trials{f', {again} trainings with other seeds' if again else ''}"
        rows.append(["tuning", duration(found.get("seconds")), said, ""])
    for one in material.jobs:
        rows += _job_rows(one)
    blocks: list[Block] = []
    if rows:
        blocks.append(table(["stage", "time", "of what", "US dollars"], rows, words=3))
    if any(one.get("usd") is not None for one in material.jobs):
        dates = ", ".join(sorted({one["prices"] for one in material.jobs if one.get("usd") is not None}))
        text = (
            f"Money: billed time by a table of prices ({dates}); check them. Disks and the bucket are not in it, and what "
            "ran by `bintally cloud local` is charged nothing."
        )
        blocks.append(Paragraph(text=text, tone="soft"))
    if not material.jobs:
        said = (
            "Time on a machine of one's own, which bintally puts no price on." if rows else "Nothing was timed yet."
        )
        command = f"bintally cloud status JOB --json > job.json && bintally report {material.run} --job job.json"
        blocks += [Paragraph(text=said), Missing(text="No managed job is noted.", command=command)]
    return _section("Cost", *blocks)


def _job_rows(one: Found) -> Iterator[list[str]]:
    """A managed job as `bintally cloud status --json` tells it."""
    name, status = one.get("name", "?"), one.get("status", "?")
    if one.get("kind") == "tuning":
        trainings = one.get("trainings", ())
        seconds = [row["seconds"] for row in trainings if row.get("seconds") is not None]
        yield [
            f"tuning `{name}`",
            duration(sum(seconds) if seconds else None),
            f"{len(trainings)} trainings, {status}",
            "–",
        ]
        return
    spot = ", spare capacity" if one.get("spot") else ""
    machines = f"{one.get('instances') or 1} × {one['instance']}" if one.get("instance") else "unknown machines"
    usd = one.get("usd")
    money = "–" if usd is None else f"{usd:,.2f}"
    yield [
        f"{one.get('kind', 'job')} `{name}`",
        duration(one.get("billed_seconds")),
        f"{machines}{spot}, {status}",
        money,
    ]


def again(material: Material) -> Section:
    """What somebody needs to come to the same figures."""
    about, card, found = material.about, material.card, material.evaluation
    rows = [("run", str(material.run)), ("made by", f"bintally {about.get('code_version', '?')}")]
    rows.append(("manifest", f"{about['manifest'].get('digest', '')[:16]} of {about['manifest'].get('root', '?')}"))
    rows.append(("seed", str(about["settings"].get("train", {}).get("seed", "?"))))
    if card is not None:
        rows.append(("model", f"{card.model_id}: {card.architecture}, {card.precision}, counts {card.counts}"))
    if found is not None:
        looks = len(found["looks"])
        often = "once" if looks == 1 else f"{looks} times"
        rows.append((f"looks at the {found['part']} part", f"{often}, last on {found['looks'][-1]['at'][:10]}"))
    blocks: list[Block] = [table(["what", "which"], rows, words=2)]
    if found is not None and found["part"] == "test" and len(found["looks"]) > 1:
        text = "The test part was scored more than once: choices made after the first look belong on the validation part."
        blocks.append(Paragraph(text=text, tone="warn"))
    return Section(anchor="again", title="To make it again", blocks=tuple(blocks))


def _section(title: str, *blocks: Block) -> Section:
    return Section(anchor=title.lower(), title=title, blocks=blocks)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
