"""The page of a profiled training: what to change first, where a step's time goes, and what the machine did."""

from collections.abc import Mapping, Sequence
from typing import Any

from bintally.report.page import COLOURS, add_legend, figure, figure_uri, number, percent, render

_FEW = 8
_NAMES = {
    "waiting": "waiting for data",
    "to_device": "to device",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
}


def page(name: str, found: Mapping[str, Any]) -> str:
    """One self-contained HTML page.

    Args:
        name: the recipe's name.
        found: what `bintally profile --json` prints, which is what `profile.json` holds.
    """
    verdicts = found["rules"]
    rules = [
        {
            "name": rule,
            "fired": bool(verdict["RuleTriggered"]),
            "applies": verdict["Details"]["not_applicable"] is None,
            "says": verdict["Details"]["not_applicable"] or ("fired" if verdict["RuleTriggered"] else "quiet"),
            "violations": verdict["Violations"],
            "datapoints": verdict["Datapoints"],
            "parameters": verdict["RuleParameters"].replace("\n", ", ") or "none",
            "advice": verdict["Details"]["advice"],
            "findings": verdict["Details"]["findings"][:_FEW],
            "more": max(0, verdict["Violations"] - _FEW),
        }
        for rule, verdict in verdicts.items()
    ]
    rules.sort(key=lambda rule: (not rule["fired"], not rule["applies"]))
    return render(
        "profile.html",
        name=name,
        found=found,
        tiles=tiles(found),
        phases=phase_rows(found),
        usage=[
            [_usage_name(key), *(number(float(one[part]), 1) for part in ("mean", "p50", "p95", "max"))]
            for key, one in found["usage"].items()
        ],
        rules=rules,
        plots=plots(found),
    )


def phase_rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Phase, milliseconds a step, share: the rows of a table."""
    return [
        [_NAMES[key], number(1000 * one["seconds"], 1), percent(one["share"])] for key, one in found["phases"].items()
    ]


def tiles(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Value and label of the figures at the top."""
    made = [
        (number(found["photos_per_second"], 1), "photos/s trained"),
        (f"{1000 * found['step_seconds']['mean']:,.0f} ms", f"a step of {found['batch_size']} photos"),
        (percent(found["phases"]["waiting"]["share"]), "waiting for data"),
    ]
    loader = found["loader"]
    if loader["photos_per_second"] is not None:
        made.append(
            (number(loader["photos_per_second"], 0), f"photos/s the loader makes, {loader['workers']} threads")
        )
    decode = found["decode"]
    if decode["ms_each"] is not None:
        made.append((f"{decode['ms_each']:.1f} ms", "to read and decode a photo, one thread"))
    rss = found["usage"].get("rss_mb")
    if rss:
        made.append((f"{rss['max']:,.0f} MB", "memory at most"))
    return made


def _usage_name(key: str) -> str:
    words = key.replace("cpu", "CPU").replace("gpu", "GPU").replace("rss_mb", "memory_MB").replace("mb_s", "MB/s")
    return words.replace("percent", "%").replace("_mb", "_MB").replace("_", " ")


def plots(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Steps, memory, processors, disk and GPUs over time: "uri" and "caption" of each."""
    made = []
    steps, samples = found["steps"], found["samples"]
    if steps:
        fig, (ax,) = figure()
        bottom = [0.0] * len(steps)
        at = [step["step"] for step in steps]
        for colour, (key, title) in zip(COLOURS, _NAMES.items(), strict=False):
            heights = [1000 * step[key] for step in steps]
            ax.bar(at, heights, bottom=bottom, width=0.9, color=colour, label=title)
            bottom = [one + more for one, more in zip(bottom, heights, strict=True)]
        ax.set(xlabel="step", ylabel="ms")
        add_legend(ax, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        made.append({"uri": figure_uri(fig), "caption": "Where each measured step's time went."})
    if samples:
        window = (steps[0]["started"], steps[-1]["started"]) if len(steps) > 1 else None
        made.append(_over_time(samples, window, "memory", {"this process": "rss_mb"}, "MB", "Memory over time."))
        made.append(_cpu_plot(samples, window))
        disk = {"read": "read_mb_s", "written": "write_mb_s"}
        made.append(_over_time(samples, window, "disk", disk, "MB/s", "Disk over time."))
        if any(one["gpus"] for one in samples):
            made.append(_gpu_plot(samples, window))
    return made


def _band(ax: Any, window: tuple[float, float] | None) -> None:
    if window:
        ax.axvspan(*window, color=COLOURS[2], alpha=0.12, linewidth=0)


def _over_time(
    samples: Sequence[Mapping[str, Any]],
    window: tuple[float, float] | None,
    what: str,
    series: Mapping[str, str],
    unit: str,
    caption: str,
) -> dict[str, str]:
    fig, (ax,) = figure()
    _band(ax, window)
    at = [one["time"] for one in samples]
    for title, key in series.items():
        ax.plot(at, [one[key] for one in samples], linewidth=1.2, label=title)
    ax.set(xlabel="seconds", ylabel=unit)
    ax.set_ylim(bottom=0)
    if len(series) > 1:
        add_legend(ax)
    return {"uri": figure_uri(fig), "caption": f"{caption} Green: the measured steps."}


def _cpu_plot(samples: Sequence[Mapping[str, Any]], window: tuple[float, float] | None) -> dict[str, str]:
    fig, (ax,) = figure()
    _band(ax, window)
    at = [one["time"] for one in samples]
    for core in range(len(samples[0]["cpu"])):
        values = [one["cpu"][core] if core < len(one["cpu"]) else 0.0 for one in samples]
        ax.plot(at, values, linewidth=0.6, alpha=0.5, color=COLOURS[7])
    means = [sum(one["cpu"]) / max(1, len(one["cpu"])) for one in samples]
    ax.plot(at, means, linewidth=1.4, color=COLOURS[0], label="all cores")
    ours = [one["process_cpu"] / max(1, len(one["cpu"])) for one in samples]
    ax.plot(at, ours, linewidth=1.2, color=COLOURS[2], label="this process")
    ax.plot(at, [one["io_wait"] for one in samples], linewidth=1.2, color=COLOURS[1], label="waiting for disk")
    ax.set(xlabel="seconds", ylabel="%")
    ax.set_ylim(0, 105)
    add_legend(ax)
    caption = "Processors over time, by all programs; thin lines: each core. Green: the measured steps."
    return {"uri": figure_uri(fig), "caption": caption}


def _gpu_plot(samples: Sequence[Mapping[str, Any]], window: tuple[float, float] | None) -> dict[str, str]:
    fig, (ax,) = figure()
    _band(ax, window)
    for index in sorted({gpu["index"] for one in samples for gpu in one["gpus"]}):
        points = [(one["time"], gpu) for one in samples for gpu in one["gpus"] if gpu["index"] == index]
        at = [moment for moment, _ in points]
        ax.plot(at, [gpu["percent"] for _, gpu in points], linewidth=1.2, label=f"GPU {index}")
        memory = [gpu["memory_percent"] for _, gpu in points]
        ax.plot(at, memory, linewidth=1.0, linestyle="--", label=f"GPU {index}, memory")
    ax.set(xlabel="seconds", ylabel="%")
    ax.set_ylim(0, 105)
    add_legend(ax)
    return {"uri": figure_uri(fig), "caption": "GPUs over time. Green: the measured steps."}
