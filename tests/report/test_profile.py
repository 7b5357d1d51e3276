"""The page of a profile says what to change, where the time goes and what fired, and is whole in itself."""

from typing import Any

from bintally.report.profile import page, phase_rows

PHASES = ("waiting", "to_device", "forward", "backward", "optimizer")


def verdict(findings: list[dict[str, Any]], why: str | None = None) -> dict[str, Any]:
    return {
        "RuleTriggered": int(bool(findings)),
        "Violations": len(findings),
        "Datapoints": 3,
        "RuleParameters": "threshold:0.5\npatience:10",
        "Details": {"findings": findings, "advice": "Set <workers>.", "not_applicable": why},
    }


def finding(step: int) -> dict[str, Any]:
    return {"rule": "Dataloader", "step": step, "where": "data", "value": 50.0, "threshold": 20.0, "message": "waits"}


def sample(time: float, gpus: list[dict[str, Any]]) -> dict[str, Any]:
    flat = dict.fromkeys(("io_wait", "process_cpu", "rss_mb", "read_mb_s", "write_mb_s"), 1.0)
    return {"time": time, "cpu": [10.0, 90.0], "gpus": gpus, **flat}


def found(**changes: Any) -> dict[str, Any]:
    lever = {
        "name": "channels_last",
        "flags": ["--set train.channels_last=true"],
        "why": "it computes",
        "expected": 1.4,
        "changes_training": "",
        "verdict": "pays",
        "times": 1.39,
        "before": 12.3,
        "after": 17.1,
        "line": "channels_last: 1.39 times, measured: 12.3 → 17.1 photos/s.",
    }
    step = dict.fromkeys(PHASES, 0.1) | {"rss_mb": 100.0, "gpu_mb": 0.0}
    whole = {
        "headline": "Change channels_last & more",
        "device": "cpu",
        "precision": "32-true",
        "cores": 2,
        "torch_threads": 2,
        "batch_size": 16,
        "measured_steps": 2,
        "source": "memory",
        "photos_per_second": 12.3,
        "step_seconds": {"mean": 0.5, "p50": 0.5, "p95": 0.5, "max": 0.5},
        "phases": {name: {"seconds": 0.1, "share": 0.2} for name in PHASES},
        "loader": {"workers": 2, "share": 0.3, "photos_per_second": 90.0},
        "decode": {"photos": 32, "ms_each": 2.5, "photos_per_second": 700.0},
        "setup_seconds": 1.0,
        "usage": {"rss_mb": {"mean": 1.0, "p50": 1.0, "p95": 1.0, "max": 123.0}},
        "operators": [{"name": "aten::conv<2d>", "calls": 53.0, "cpu_ms": 300.0, "gpu_ms": 0.0, "share": 0.8}],
        "advice": [lever],
        "together": None,
        "rules": {"BatchSize": verdict([], "not applicable: no GPU"), "Dataloader": verdict([finding(1)] * 10)},
        "trace": "trace.json",
        "steps": [{"step": 6, "started": 1.0, **step}, {"step": 7, "started": 1.5, **step}],
        "samples": [sample(0.5, []), sample(1.2, [])],
    }
    return whole | changes


def test_what_to_change_stands_at_the_top() -> None:
    text = page("seed", found())
    assert text.index("Change channels_last &amp; more") < text.index("Where a step")
    assert "--set train.channels_last=true" in text
    assert "12.3 → 17.1 photos/s" in text


def test_phases_operators_and_rules_are_on_the_page() -> None:
    text = page("seed", found())
    assert "waiting for data" in text
    assert "aten::conv&lt;2d&gt;" in text
    assert "not applicable: no GPU" in text
    assert "Set &lt;workers&gt;." in text
    assert "and 2 more" in text
    assert text.count("<img") == 4
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert phase_rows(found())[0] == ["waiting for data", "100.0", "20.0 %"]


def test_gpus_get_a_plot() -> None:
    gpu = {"index": 0, "percent": 90.0, "memory_percent": 40.0, "memory_mb": 4000.0}
    assert page("seed", found(samples=[sample(0.5, [gpu]), sample(1.2, [gpu])])).count("<img") == 5


def test_a_profile_without_advice_trace_or_samples() -> None:
    decode = {"photos": 0, "ms_each": None, "photos_per_second": None}
    loader = {"workers": 2, "share": 0.0, "photos_per_second": None}
    bare = found(advice=[], operators=[], trace=None, samples=[], usage={}, decode=decode, loader=loader)
    assert "No lever on the list" in page("seed", bare)
    assert "Top operators" not in page("seed", bare)


def test_levers_that_failed_or_were_not_tried() -> None:
    one = found()["advice"][0] | {"verdict": "failed", "times": None, "before": None, "after": None}
    assert "failed" in page("seed", found(advice=[one, one | {"verdict": "not tried"}]))
