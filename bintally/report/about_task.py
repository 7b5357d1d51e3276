"""The first chapters of a report: what was asked, of which photos, in which way, and what there is to beat."""

from collections.abc import Iterator, Mapping
from typing import Any

from bintally.report import page, summary
from bintally.report.document import (
    Block,
    Bullets,
    Heading,
    Missing,
    Paragraph,
    Picture,
    Section,
    Sheet,
    Tiles,
    plots,
    table,
)
from bintally.report.gather import Found, Material

THUMB = 180
"""Longest side of a contact sheet's photo, in pixels of the file; shown at half of that."""

_SHEET = 8


def definition(material: Material) -> Section:
    """The problem, what the counter answers, and how it is judged."""
    counts = counts_of(material)
    covered = f"the counts {counts}" if counts else "a range of counts"
    last = ", the last one meaning “that many or more”" if counts.endswith("+") else ""
    from_scratch = material.about["settings"].get("model", {}).get("backbone") == "tiny"
    how = "from scratch" if from_scratch else "by transfer learning"
    return Section(
        anchor="definition",
        title="Definition",
        blocks=(
            Paragraph(
                text="A distribution centre keeps a record of what lies in every bin. Robots carry the bins past cameras. "
                "Picking and stowing go wrong now and then, and record and bin differ until somebody looks. This report "
                "asks how far one photo of a bin tells how many items are in it, so that the count can be held against "
                "the record and a person need only look where the two disagree."
            ),
            Paragraph(
                text=f"The counter answers every photo with a probability for each of {covered}{last}. It is trained on "
                f"photos with their records as labels, {how}, and scored on photos of bins that it never saw."
            ),
            Heading(text="Why it is hard"),
            Bullets(
                items=(
                    "Items lie behind each other and behind elastic bands; some photos are blurred.",
                    "One unit is not always one visible object: a pack of twelve may be one item on the record.",
                    "The labels are the very records that go wrong, so no counter can be right about all of them.",
                    "Photos come in series of the same bin minutes apart. A counter that is tested on siblings of what it "
                    "was trained on looks better than it is.",
                )
            ),
            Heading(text="How it is judged"),
            table(["figure", "what it says", "better"], _METRICS, words=3),
        ),
    )


_METRICS = (
    ("accuracy", "share of photos whose likeliest count is the record's", "higher"),
    ("within one", "share of photos whose likeliest count is off by one item at most", "higher"),
    ("RMSE, MAE", "error in items, of the likeliest and of the expected count", "lower"),
    (
        "negative log-likelihood",
        "how little probability the true count was given; chooses epochs and recipes",
        "lower",
    ),
    ("calibration error", "how far stated probabilities are from the share that came true", "lower"),
    (
        "accuracy against coverage",
        "accuracy on the photos it is surest of: what a centre can let pass unseen",
        "higher",
    ),
)


def counts_of(material: Material) -> str:
    """The range of counts, such as "0-5"; empty where nothing says it."""
    if material.card is not None:
        return str(material.card.counts)
    split = (material.data or {}).get("split")
    return str(split["counts"]) if split else ""


def data(material: Material) -> Section:
    """What the photos and records are, and how they were split."""
    found = material.data
    if found is None:
        return Section(
            anchor="data",
            title="Data",
            blocks=(
                Missing(
                    text="The run's split is not at hand.",
                    command=f"bintally report {material.run} --photos SPLIT.parquet",
                ),
            ),
        )
    blocks: list[Block] = [
        Paragraph(
            text=f"{found['photos']:,} photos of bins, each with its record: which products, and how many of each. The label "
            f"is the record's expected quantity, or a person's review where there is one.{_licence(material)}"
        ),
        Tiles(pairs=tuple(_tiles(found))),
    ]
    made = [plot for plot in summary.plots(found) if _wanted(plot["alt"])]
    if made:
        blocks.append(plots(made))
    rows = _sheet(found, material)
    if rows:
        blocks += [Heading(text="Some photos of each count"), Sheet(rows=rows)]
    else:
        blocks.append(
            Missing(
                text="The photos are not where the run found them.",
                command=f"bintally report {material.run} --photos FOLDER_OR_MANIFEST",
            )
        )
    blocks += list(_split(found))
    return Section(anchor="data", title="Data", blocks=tuple(blocks))


def _licence(material: Material) -> str:
    return f" On its licence the model's card says: {material.card.licence}" if material.card else ""


def _wanted(alt: str) -> bool:
    return alt.startswith(
        ("Items in a bin", "Photos that may show one bin", "Histogram of sharpness", "Products in a bin")
    )


def _tiles(found: Found) -> Iterator[tuple[str, str]]:
    counts, duplicates = found["counts"], found["duplicates"]
    yield "photos", page.number(found["photos"])
    yield "items in a bin, mean", page.number(counts["mean"])
    yield "hold more than five", page.percent(counts["over_five_share"])
    yield "products", page.number(found["records"]["products"])
    yield "photos with a sibling of the same bin", page.percent(found["series"]["sibling_share"])
    yield "blurred", page.percent(found["blur"]["share"])
    yield "look-alike pairs whose labels differ", page.number(duplicates["near"]["labels_differ"])


def _sheet(found: Found, material: Material) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    rows = []
    for one in found["examples"]["by_count"]:
        pictures = []
        for name in one["photos"][:_SHEET]:
            photo = material.read_photo(name)
            if photo is not None:
                alt = f"photo {name}: {one['name']} items on record"
                pictures.append(Picture(uri=page.photo_uri(photo, THUMB), alt=alt))
        if pictures:
            rows.append((one["name"], tuple(pictures)))
    return tuple(rows)


def _split(found: Found) -> Iterator[Block]:
    split = summary.split_table(found["split"])
    if split is None:
        yield Paragraph(text="The photos are not split.", tone="warn")
        return
    yield Heading(text="The split")
    if split["shuffled"]:
        yield Paragraph(
            text=f"By photo, shuffled, as the literature does: {split['leaking_test_photos']:,} test photos "
            f"({page.percent(split['leaking_share'])}) have a sibling of the same bin in training, so the figures flatter.",
            tone="warn",
        )
    else:
        yield Paragraph(
            text="By series: photos of one bin taken one after the other are all in one part, so that nothing is tested on a "
            "sibling of what it was trained on. Train is learnt from; validation chooses the epoch and the recipe (a refit "
            "then learns from it); calibration makes the probabilities honest; test is scored at the end."
        )
    yield Paragraph(
        text=f"Counts {split['counts']}, seed {split['seed']}; {split['kept']:,} photos kept, {split['left_out']:,} left out."
    )
    yield table(split["columns"], split["rows"], "Photos and groups of each part, and photos of each count")


def method(material: Material) -> Section:
    """Preprocessing, model and training, from the settings that the run was made with."""
    settings = material.about["settings"]
    model, train, pixels = settings.get("model", {}), settings.get("train", {}), settings.get("pixels", {})
    augment = {key: value for key, value in settings.get("augment", {}).items() if value}
    size = pixels.get("size", 224)
    blocks: list[Block] = [
        Paragraph(
            text=f"Preprocessing, the same in training, checks and serving: the photo is decoded, scaled to {size} × {size} "
            "pixels and normalised by the statistics of the backbone's own training. "
            + (
                f"In training alone, photos are varied: {_listed(augment)}."
                if augment
                else "Photos are not varied in training."
            )
        ),
        Paragraph(text=_model_text(model, material)),
        Paragraph(text=_train_text(train, material)),
    ]
    rows = [
        (table_name, key, _value(value))
        for table_name in ("model", "train", "augment", "pixels")
        for key, value in settings.get(table_name, {}).items()
        if key not in _OF_THE_MACHINE
    ]
    blocks += [Heading(text="Every setting"), _folded(rows)]
    return Section(anchor="method", title="Method", blocks=tuple(blocks))


_OF_THE_MACHINE = {
    *(
        "workers",
        "cache_mb",
        "checkpoint_every_steps",
        "checkpoint_every_seconds",
        "threads",
        "device",
        "channels_last",
    ),
    "keep_activations",
}
"""Settings that change how long it takes, not what comes of it."""


def _folded(rows: list[tuple[str, str, str]]) -> Block:
    """Two settings a line: a report is no settings file."""
    half = (len(rows) + 1) // 2
    lines = []
    for place in range(half):
        left = rows[place]
        right = rows[place + half] if place + half < len(rows) else ("", "", "")
        lines.append((f"{left[0]}.{left[1]}", left[2], f"{right[0]}.{right[1]}" if right[0] else "", right[2]))
    return table(["setting", "value", "setting", "value"], lines, words=4)


def _model_text(model: Mapping[str, Any], material: Material) -> str:
    backbone, stages = model.get("backbone", ""), model.get("unfrozen_stages", 0)
    if backbone == "tiny":
        said = "Model: a small residual network trained from scratch, with a linear head"
    else:
        learnt = (
            "stays frozen; a linear head on its pooled features is learnt"
            if not stages
            else f"is frozen but for its last {'stage' if stages == 1 else f'{stages} stages'}, which "
            f"{'is' if stages == 1 else 'are'} learnt with the linear head"
        )
        said = f"Model: `{backbone}`, pretrained, {learnt}"
    dropout = f", dropout {model['dropout']:g} before it" if model.get("dropout") else ""
    counts = counts_of(material)
    return f"{said}{dropout}" + (f"; one class a count, {counts}." if counts else ".")


def _train_text(train: Mapping[str, Any], material: Material) -> str:
    photos = material.about.get("photos", {})
    much = f" on {photos['train']:,} photos, judged on {photos['validation']:,}" if "train" in photos else ""
    parts = [
        f"Training{much}: {train.get('loss', 'cross-entropy')}, {train.get('optimizer', '')}, batches of "
        f"{train.get('batch_size', '?')}, rates {train.get('head_lr', 0):g} (head) and {train.get('backbone_lr', 0):g} "
        f"(unfrozen stages), {train.get('schedule', 'constant')} schedule, at most {train.get('epochs', '?')} epochs"
    ]
    if train.get("weight_decay"):
        parts.append(f"weight decay {train['weight_decay']:g}")
    if train.get("label_smoothing"):
        parts.append(f"label smoothing {train['label_smoothing']:g}")
    for key, said in (("class_weights", "class weights"), ("sampling", "sampling")):
        if train.get(key, "none") != "none":
            parts.append(f"{said} {train[key]}")
    stop = f"; it stops after {train['patience']} epochs without a better one" if train.get("patience") else ""
    about = material.about
    return (
        f"{', '.join(parts)}. The epoch that is kept is the one with the lowest negative log-likelihood on the validation "
        f"part{stop}. Precision {about.get('precision', '?')} on {about.get('device', '?')}, seed {train.get('seed', '?')}."
    )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(one) for one in value)
    return str(value)


def benchmark(material: Material) -> Section:
    """The counter that never looks, and what others published."""
    blocks: list[Block] = [
        Paragraph(
            text="Two things to beat. The first is a counter that never looks at the photo and gives each the same answer: "
            "the majority class of the training labels, or their shares as probabilities. The second is what others "
            "published on the Amazon Bin Image Dataset; photos, counts and split differ, so each is to be read with its line."
        )
    ]
    blind = _blind(material)
    if blind:
        blocks.append(Paragraph(text=blind))
    else:
        blocks.append(
            Missing(
                text="Neither the split nor an evaluation is at hand.", command=f"bintally evaluate {material.run}"
            )
        )
    if material.published:
        rows = []
        for one in material.published:
            low, high = one["accuracy"]
            accuracy = page.percent(low) if low == high else f"{100 * low:.0f} to {100 * high:.0f} %"
            rows.append([one["who"], one["counts"], one["data"], one["model"], one["split"], accuracy, one["rmse"]])
        blocks.append(
            table(
                ["who", "counts", "photos", "model", "split", "accuracy", "RMSE"], rows, "Published results", words=5
            )
        )
    return Section(anchor="benchmark", title="Benchmark", blocks=tuple(blocks))


def _blind(material: Material) -> str:
    if material.evaluation:
        own = material.evaluation["scopes"][0]
        name = material.evaluation["model"]["names"][own["blind"]["majority"]]
        figures = own["blind"]["figures"]
        part = f"the {own['num_photos']:,} photos of the {material.evaluation['part']} part"
        return (
            f"On {part}, always answering {name} is right for {page.percent(figures['accuracy'])} (RMSE "
            f"{figures['rmse']:.2f}); the class shares as probabilities reach a negative log-likelihood of "
            f"{figures['nll']:.3f}."
        )
    split: Found = (material.data or {}).get("split") or {}
    parts = split.get("parts", {})
    train, test = (parts.get(name, {}).get("per_class", []) for name in ("train", "test"))
    if not train or not sum(test):
        return ""
    majority = max(range(len(train)), key=lambda place: train[place])
    return (
        f"Always answering {split['classes'][majority]}, the majority class of the training photos, is right for "
        f"{page.percent(test[majority] / sum(test))} of the {sum(test):,} test photos."
    )
