"""The page of a dataset's summary: plots, tables and a contact sheet, from the summary's plain values."""

from collections.abc import Callable, Mapping
from typing import Any

from bintally.report import page

ReadPhoto = Callable[[str], bytes | None]
"""Gives the bytes of a photo by its id, or None when the file is not there any more."""

_SIDE = 112
_GONE = b""


def summary_page(summary: Mapping[str, Any], read_photo: ReadPhoto) -> str:
    """The page of a summary.

    Args:
        summary: what `data.summary.summarise` gives (or the same read from JSON).
        read_photo: gives the photos that `summary["examples"]` names.

    Returns:
        One self-contained HTML page.
    """

    def photo(name: str) -> dict[str, str]:
        return {"id": name, "uri": page.photo_uri(read_photo(name) or _GONE, 2 * _SIDE)}

    examples = summary["examples"]
    return page.render(
        "summary.html",
        summary=summary,
        side=_SIDE,
        tiles=_tiles(summary),
        plots=plots(summary),
        counts=page.cells(
            [one["name"], one["photos"], page.percent(one["share"])] for one in summary["counts"]["classes"]
        ),
        split=split_table(summary["split"]),
        sheet=[
            {"name": row["name"], "photos": [photo(name) for name in row["photos"]]} for row in examples["by_count"]
        ],
        blurred=[photo(name) for name in examples["blurred"]],
        disputed=[pair | {"pictures": [photo(name) for name in pair["photos"]]} for pair in examples["disputed"]],
    )


def _tiles(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    counts, duplicates = summary["counts"], summary["duplicates"]
    return [
        ("photos", page.number(summary["photos"])),
        ("with a label", page.number(summary["labelled"])),
        ("hold more than five", page.percent(counts["over_five_share"])),
        ("items in a bin, mean", page.number(counts["mean"])),
        ("products", page.number(summary["records"]["products"])),
        ("photos with a sibling", page.percent(summary["series"]["sibling_share"])),
        ("blurred", page.percent(summary["blur"]["share"])),
        ("copies of a file", page.number(duplicates["exact"]["number"])),
        ("problems", page.number(summary["problems"]["number"])),
    ]


def plots(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Counts, products, units, groups, sharpness and sizes: "uri" and "alt" of each plot."""
    exact = {int(count): number for count, number in summary["counts"]["exact"].items()}
    units = {int(count): number for count, number in summary["quantities"]["units_per_product"].items()}
    products = {int(count): number for count, number in summary["quantities"]["products_per_bin"].items()}
    lengths = {int(count): number for count, number in summary["series"]["lengths"].items()}
    made = [
        _bars(exact, "Items in a bin, by the record", "items", "photos", top=30),
        _bars(products, "Products in a bin", "products", "bins", top=20),
        _bars(units, "Units of one product in a bin", "units", "products in bins", top=15, log=True),
        _bars(lengths, "Photos that may show one bin (a group)", "photos in the group", "groups", top=12, log=True),
        _blur(summary["blur"]),
        _sizes(summary["sizes"]),
    ]
    return [plot for plot in made if plot["uri"]]


def _bars(
    held: Mapping[int, int], title: str, below: str, beside: str, *, top: int, log: bool = False
) -> dict[str, str]:
    if not held:
        return {"uri": "", "alt": ""}
    fig, (ax,) = page.figure(5.4, 2.8)
    low, high = min(held), min(max(held), top)
    values = [held.get(count, 0) for count in range(low, high + 1)]
    values[-1] += sum(number for count, number in held.items() if count > high)
    names = [str(count) for count in range(low, high)] + [f"{high}+" if max(held) > high else str(high)]
    ax.bar(range(len(values)), values, width=0.82)
    every = -(-len(names) // 16)
    ticks = [place for place in range(len(names)) if place % every == 0 and place < len(names) - 1] or []
    if ticks and len(names) - 1 - ticks[-1] < every:
        ticks.pop()  # the last name stands for "or more": it is always shown, and needs its room
    ticks.append(len(names) - 1)
    ax.set_xticks(ticks, [names[place] for place in ticks])
    if log:
        ax.set_yscale("log")
    ax.set(title=title, xlabel=below, ylabel=f"{beside}{' (log)' if log else ''}")
    most = max(held, key=lambda count: (held[count], -count))
    alt = f"{title}: bar chart, {low} to {max(held)} {below}; most frequent is {most} with {held[most]:,} {beside}."
    return {"uri": page.figure_uri(fig), "alt": alt}


def _blur(blur: Mapping[str, Any]) -> dict[str, str]:
    fig, (ax,) = page.figure(5.4, 2.8)
    edges, held = blur["histogram"]["edges"], blur["histogram"]["photos"]
    used = [place for place, number in enumerate(held) if number]
    first, last = used[0], used[-1]
    ax.stairs(held[first : last + 1], edges[first : last + 2], fill=True)
    ax.axvline(blur["below"], color=page.COLOURS[3], linewidth=1.2)
    ax.set_xscale("log")
    share = page.percent(blur["share"])
    ax.set(
        title=f"Sharpness: {share} lie below {blur['below']:g}", xlabel="variance of the Laplacian", ylabel="photos"
    )
    return {"uri": page.figure_uri(fig), "alt": f"Histogram of sharpness; {share} of the photos count as blurred."}


def _sizes(sizes: Mapping[str, Any]) -> dict[str, str]:
    if len(sizes["common"]) < 2:
        return {"uri": "", "alt": ""}  # all of one size: the table below says so
    fig, (ax,) = page.figure(5.4, 2.8)
    common = sizes["common"]
    most = common[0]["photos"]
    area = [4 + 60 * one["photos"] / most for one in common]
    ax.scatter([one["width"] for one in common], [one["height"] for one in common], s=area, alpha=0.5)
    ax.set(title="Sizes of photos", xlabel="width, pixels", ylabel="height, pixels", xlim=(0, None), ylim=(0, None))
    alt = f"Widths {sizes['width']['lowest']} to {sizes['width']['highest']} pixels, heights "
    return {"uri": page.figure_uri(fig), "alt": f"{alt}{sizes['height']['lowest']} to {sizes['height']['highest']}."}


def split_table(split: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Columns and rows of the table of parts, with the split's own values; None without a split."""
    if split is None:
        return None
    rows = [
        [name, part["photos"], page.percent(part["share"]), part["groups"], *part["per_class"]]
        for name, part in split["parts"].items()
    ]
    return {"columns": ["part", "photos", "share", "groups", *split["classes"]], "rows": page.cells(rows), **split}
