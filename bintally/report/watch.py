"""The page of a watched training: what the debug rules found, where, and what people do about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from bintally.report.page import COLOURS, add_legend, figure, figure_uri, render

_FEW = 12


def page(
    run: str,
    verdicts: Mapping[str, Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    validations: Sequence[Mapping[str, Any]],
) -> str:
    """One self-contained HTML page.

    Args:
        run: the run's name.
        verdicts: rule → verdict, as `bintally watch --json` gives them.
        checks: the records of `watch/checks.jsonl`.
        validations: the records of `watch/validations.jsonl`.
    """
    rules = [
        {
            "name": name,
            "fired": bool(verdict["RuleTriggered"]),
            "violations": verdict["Violations"],
            "datapoints": verdict["Datapoints"],
            "parameters": verdict["RuleParameters"].replace("\n", ", ") or "none",
            "advice": verdict["Details"]["advice"],
            "findings": verdict["Details"]["findings"][:_FEW],
            "more": max(0, verdict["Violations"] - _FEW),
            "plot": _finding_plot(verdict["Details"]["findings"]),
        }
        for name, verdict in verdicts.items()
    ]
    rules.sort(key=lambda rule: not rule["fired"])
    return render(
        "watch.html",
        run=run,
        rules=rules,
        fired=sum(rule["fired"] for rule in rules),
        checks=len(checks),
        steps=checks[-1]["step"] if checks else 0,
        plots=plots(checks, validations),
    )


def _finding_plot(findings: Sequence[Mapping[str, Any]]) -> str | None:
    """The values found over the steps, beside the threshold: the six places found most often."""
    finite = [one for one in findings if one["value"] is not None]
    if not finite:
        return None
    places: dict[str, list[tuple[int, float]]] = {}
    for one in finite:
        places.setdefault(one["where"], []).append((one["step"], one["value"]))
    fig, (ax,) = figure(6.4, 2.4)
    for name, points in sorted(places.items(), key=lambda item: -len(item[1]))[:6]:
        ax.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=_short(name))
    for threshold in sorted({one["threshold"] for one in finite}):
        ax.axhline(threshold, color=COLOURS[3], linewidth=1, linestyle="--", label=f"threshold {threshold:g}")
    values = [one["value"] for one in finite]
    if min(values) > 0 and max(values) > 100 * min(values):
        ax.set_yscale("log")
    ax.set_xlabel("step")
    add_legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure_uri(fig)


def plots(checks: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Losses, gradients, updates and the like over the steps: "uri" and "caption" of each."""
    made = []
    if checks:
        steps = [check["step"] for check in checks]
        fig, (ax,) = figure()
        ax.plot(steps, [_or_nan(check["mean_loss"]) for check in checks], label="training, between checks")
        if validations:
            ax.plot(
                [v["step"] for v in validations],
                [_or_nan(v["loss"]) for v in validations],
                marker="o",
                markersize=3,
                label="validation",
            )
        ax.set(xlabel="step", ylabel="loss")
        add_legend(ax)
        made.append({"uri": figure_uri(fig), "caption": "Loss."})
        for key, part, caption in (
            ("gradients", "mean_abs", "Mean absolute gradient per layer: median and extremes over the layers."),
            ("updates", None, "Change of a weight in one step over its size: median and extremes over the layers."),
            ("activations", "mean_abs", "Mean absolute output per layer: median and extremes over the layers."),
            ("dead_relus", None, "Share of hardly active ReLUs per layer: median and extremes over the layers."),
        ):
            spans = [_span(check.get(key, {}), part) for check in checks]
            if not any(span for span in spans):
                continue
            at = [step for step, span in zip(steps, spans, strict=True) if span]
            low, middle, high = zip(*[span for span in spans if span], strict=True)
            fig, (ax,) = figure()
            ax.fill_between(at, low, high, alpha=0.25, linewidth=0)
            ax.plot(at, middle)
            if key != "dead_relus" and min(middle) > 0:
                ax.set_yscale("log")
            ax.set_xlabel("step")
            made.append({"uri": figure_uri(fig), "caption": caption})
    return made


def _span(layers: Mapping[str, Any], part: str | None) -> tuple[float, float, float] | None:
    values = sorted(v for one in layers.values() if (v := one[part] if part else one) is not None)
    return (values[0], values[len(values) // 2], values[-1]) if values else None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _short(name: str) -> str:
    return name if len(name) <= 44 else f"…{name[-43:]}"
