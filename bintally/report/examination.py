"""The page of an examination: what a counter looks at, where it fails, which labels look wrong, what nobody can count."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bintally import files
from bintally.errors import UnreadablePhotoError
from bintally.heatmap import overlay
from bintally.pixels import PixelSpec, decode, to_input
from bintally.report import page
from bintally.report.written import read_written

SIDE = 168
"""Photos beside their maps, in pixels."""

FORM_SIDE = 224
"""Photos that a person is to count in."""

Table = tuple[str, list[str], list[list[str]]]

_MASKS = {"hottest": "the hottest part", "coldest": "the coldest part", "elsewhere": "as much elsewhere"}


def read_examination(folder: Path) -> dict[str, Any]:
    """What `bintally examine` wrote into a folder.

    Raises:
        RunError: there is none, or it is damaged.
    """
    return read_written(folder / "examination.json", "examine")


def write_page(folder: Path, to: Path) -> None:
    """Writes the page of an examination folder as one self-contained HTML file. Raises RunError: there is none."""
    files.write_text(to, examination_page(read_examination(folder)))


def write_form_page(folder: Path, to: Path) -> None:
    """Writes the page to count by eye: photos without their labels, and pairs. Raises RunError: there is none."""
    found = read_examination(folder)
    root = Path(found["manifest"]["root"])
    form = found["by_eye"]
    files.write_text(
        to,
        page.render(
            "by_eye.html",
            photos=[(one["photo_id"], page.photo_uri(_bytes(root, one), FORM_SIDE)) for one in form["photos"]],
            pairs=[
                [(one[of]["photo_id"], page.photo_uri(_bytes(root, one[of]), FORM_SIDE)) for of in ("fewer", "more")]
                for one in form["pairs"]
            ],
            side=FORM_SIDE,
            licence=found["model"]["licence"],
        ),
    )


def examination_page(found: dict[str, Any]) -> str:
    """The page; photos are read from where examination.json says."""
    figures = found["figures"]
    tiles = [
        (f"accuracy, {_ends(figures['accuracy'], share=True)}", page.percent(figures["accuracy"]["value"])),
        (f"within one, {_ends(figures['within_one'], share=True)}", page.percent(figures["within_one"]["value"])),
        (f"negative log-likelihood, {_ends(figures['nll'])}", page.number(float(figures["nll"]["value"]))),
        (f"bias in items, {_ends(figures['bias_expected'])}", f"{figures['bias_expected']['value']:+.2f}"),
    ]
    names = found["model"]["names"]
    return page.render(
        "examination.html",
        found=found,
        run=Path(found["folder"]).name,
        tiles=tiles,
        deletion=deletion_table(found),
        regions=regions_table(found),
        mean=[(name, _mean_uri(found, name)) for name in found["maps"]["mean"]],
        right=[_mapped(one, found) for one in found["maps"]["right"]],
        wrong=[_mapped(one, found) for one in found["maps"]["wrong"]],
        slices=[(one["about"], slice_table(one)) for one in found["slices"]],
        joint=joint_table(found["labels"]["joint"], names),
        planted=planted_table(found["labels"]),
        surprises=surprise_table(found["labels"]),
        suspects=[_suspect(one, found) for one in found["labels"]["suspects"]],
        limits=limit_table(found),
        hidden=hidden_table(found),
        side=SIDE,
    )


def summary_tables(found: Mapping[str, Any]) -> list[Table]:
    """The figures as small tables for a terminal."""
    return [
        deletion_table(found),
        regions_table(found),
        *(slice_table(one) for one in found["slices"]),
        planted_table(found["labels"]),
        surprise_table(found["labels"]),
        limit_table(found),
        hidden_table(found),
    ]


def deletion_table(found: Mapping[str, Any]) -> Table:
    """What taking away parts of photos does to the answers."""
    maps = found["maps"]
    rows = []
    for one in maps["deletion"]:
        for key, name in _MASKS.items():
            found_here = one[key]
            rows.append(
                [
                    f"{one['of']} ({one['photos']:,}): {name}",
                    _with_ends(found_here["drop"], scale=100, digits=1),
                    page.percent(found_here["changed"]["value"]),
                    _with_ends(found_here["shift"]),
                    page.number(float(found_here["moved"]["value"])),
                ]
            )
        for other in ("coldest", "elsewhere"):
            less = one[f"hottest_less_{other}"]["drop"]
            rows.append(
                [
                    f"{one['of']}: hottest less {'coldest' if other == 'coldest' else 'elsewhere'}",
                    _with_ends(less, scale=100, digits=1),
                    *("",) * 3,
                ]
            )
    title = f"{page.percent(found['settings']['share'], 0)} of each photo taken away, {maps['photos']:,} photos"
    columns = ["taken away", "probability lost, points", "answers changed", "expected count moves", "its size"]
    return title, columns, rows


def regions_table(found: Mapping[str, Any]) -> Table:
    """Where the evidence lies."""
    rows = [
        [
            "the rim (outer eighth)" if one["name"] == "rim" else one["name"],
            page.percent(one["evidence"]["value"]),
            page.percent(one["area"]["value"]),
            _with_ends(one["more"], scale=100, digits=1),
        ]
        for one in found["maps"]["regions"]
    ]
    return "Where what speaks for the answers lies", ["", "of the evidence", "of the photo", "more, points"], rows


def slice_table(one: Mapping[str, Any]) -> Table:
    """The figures of a trait's slices."""
    rows = [
        [
            row["name"],
            page.number(row["photos"]),
            page.number(float(row["mean_count"]), 1),
            _with_ends(row["accuracy"], scale=100, digits=0, plain=True),
            "–" if one["name"] == "true count" else _with_ends(row["accuracy_beyond"], scale=100, digits=1),
            _with_ends(row["within_one"], scale=100, digits=0, plain=True),
            _with_ends(row["nll"], plain=True),
            _with_ends(row["bias_expected"]),
        ]
        for row in one["rows"]
    ]
    columns = [one["name"], "photos", "mean count", "accuracy, %", "beyond count, points", "within one, %"]
    return f"By {one['name']}", [*columns, "neg. log-likelihood", "bias, items"], rows


def joint_table(joint: Mapping[str, Any], names: list[str]) -> Table:
    """The confident joint."""
    columns = [names[count] for count in joint["counts"]]
    rows = [
        [names[count], *(page.number(one) for one in row)]
        for count, row in zip(joint["counts"], joint["confident"], strict=True)
    ]
    title = f"The confident joint: it holds {page.percent(joint['noise'])} of the labels for wrong"
    return title, ["label ↓, confidently given →", *columns], rows


def planted_table(labels: Mapping[str, Any]) -> Table:
    """What is found of labels that were made wrong on purpose."""
    rows = [
        [
            f"{one['planted']:,} labels off by {one['off']}",
            page.percent(one["found"]),
            page.number(float(one["times"]), 1),
            f"{page.percent(one['before'])} → {page.percent(one['noise'])}",
        ]
        for one in labels["planted"]
    ]
    columns = ["made wrong on purpose", "in the first tenth", "times a look by chance", "the joint says"]
    return f"Can the ranking be believed? {labels['photos']:,} photos", columns, rows


def surprise_table(labels: Mapping[str, Any]) -> Table:
    """Labels that were given next to no probability."""
    rows = [
        [
            f"below {page.percent(one['below'], 0)}",
            page.percent(one["seen"]["value"]),
            page.percent(one["expected"]["value"]),
            _with_ends(one["excess"], scale=100, digits=1),
        ]
        for one in labels["surprises"]
    ]
    return "Labels given next to no probability", ["", "seen", "expected", "excess, points"], rows


def limit_table(found: Mapping[str, Any]) -> Table:
    """The estimates of what no counter can pass, and what each rests on."""
    limits, labels = found["limits"], found["labels"]
    alike = limits["look_alikes"]
    rows = [
        [
            f"{alike['sets']:,} sets of nearly identical photos, {alike['differing']:,} with different labels: on them",
            page.percent(alike["accuracy_there"]),
        ],
        ["… on all photos, were every other one countable", page.percent(alike["accuracy"])],
        ["were the confident joint right about the labels", page.percent(1 - labels["joint"]["noise"])],
    ]
    by_eye = limits["by_eye"] or {"counted": None, "changes": None}
    if counted := by_eye["counted"]:
        rows += [
            [
                f"a person on {counted['photos']:,} of these photos",
                _with_ends(counted["accuracy"], 100, 0, plain=True),
            ],
            ["… within one", _with_ends(counted["within_one"], 100, 0, plain=True)],
            ["… saw fewer than on record", _with_ends(counted["fewer"], 100, 0, plain=True)],
            ["… saw more than on record", _with_ends(counted["more"], 100, 0, plain=True)],
            ["the counter on the same photos", _with_ends(counted["counter"], 100, 0, plain=True)],
        ]
    if changes := by_eye["changes"]:
        rows += [
            [
                f"changes of one unit that leave no trace, of {changes['pairs']:,} pairs",
                _with_ends(changes["unseen"], 100, 0, plain=True),
            ],
            ["… what hiding so many units leaves", _with_ends(changes["accuracy"], 100, 0, plain=True)],
        ]
    rows += [
        [f"published: {one['who']} ({one['split']})", page.percent(one["accuracy"])] for one in limits["published"]
    ]
    rows.append(["this counter", page.percent(found["figures"]["accuracy"]["value"])])
    return "What no counter can pass, by several ways; none is the truth", ["way", "accuracy, %"], rows


def hidden_table(found: Mapping[str, Any]) -> Table:
    """What hidden units cost, and as which share of them this counter's accuracy is."""
    limits = found["limits"]
    rows = [[page.percent(one["hidden"], 0), page.percent(one["accuracy"])] for one in limits["hidden"]]
    rows.append(
        [
            f"{page.percent(limits['as_if_hidden'])} (as if, this counter)",
            page.percent(found["figures"]["accuracy"]["value"]),
        ]
    )
    return "If units leave no trace one by one", ["share without a trace", "best accuracy"], rows


def _with_ends(one: Mapping[str, float | None], scale: float = 1, digits: int = 2, *, plain: bool = False) -> str:
    """A figure with its interval in brackets; with a sign unless it is `plain`."""
    value = scale * (one["value"] or 0.0)
    text = f"{value:.{digits}f}" if plain else f"{value:+.{digits}f}"
    if one["low"] is None or one["high"] is None:
        return text
    return f"{text} ({scale * one['low']:.{digits}f} to {scale * one['high']:.{digits}f})"


def _ends(one: Mapping[str, float | None], *, share: bool = False) -> str:
    if one["low"] is None or one["high"] is None:
        return "no interval"
    scale, digits = (100, 1) if share else (1, 2)
    return f"{scale * one['low']:.{digits}f} to {scale * one['high']:.{digits}f}{' %' if share else ''}"


def _bytes(root: Path, one: Mapping[str, Any]) -> bytes:
    try:
        return (root / str(one["uri"])).read_bytes()
    except OSError:
        return b""  # moved since: the page shows a crossed square


def _square(found: Mapping[str, Any], one: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """The photo as the model saw it, which is what the map lies over."""
    spec = PixelSpec(size=found["model"]["size"], fit=found["model"]["fit"])
    try:
        return to_input(decode(_bytes(Path(found["manifest"]["root"]), one), at_least=spec.size), spec)
    except UnreadablePhotoError:
        return None


def _heat(evidence: list[list[float]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    warm = np.maximum(np.array(evidence, dtype=np.float32), 0.0)
    peak = warm.max()
    return warm / peak if peak > 0 else warm


def _mapped(one: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    square = _square(found, one)
    names = found["model"]["names"]
    nothing = page.photo_uri(b"", SIDE)
    return {
        **one,
        "name": names[min(one["label"], len(names) - 1)],
        "said": names[one["likeliest"]],
        "photo": nothing if square is None else page.array_uri(square, SIDE),
        "map": nothing if square is None else page.array_uri(overlay(square, _heat(one["evidence"])), SIDE),
        "without": one["without"]["hottest"]["expected"],
    }


def _mean_uri(found: Mapping[str, Any], name: str) -> str:
    heat = np.array(found["maps"]["mean"][name], dtype=np.float32)
    ground = np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)
    peak = heat.max()
    return page.array_uri(overlay(ground, heat / peak if peak > 0 else heat), SIDE)


def _suspect(one: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    names = found["model"]["names"]
    photo = page.photo_uri(_bytes(Path(found["manifest"]["root"]), one), SIDE + 40)
    return {**one, "photo": photo, "said": names[one["likeliest"]]}
