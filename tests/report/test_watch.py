"""The page of a watched training names what fired, where and why, and is whole in itself."""

from bintally.report.watch import page

FINDING = {
    "rule": "DeadRelu",
    "step": 50,
    "where": "stage.1<b>",
    "value": 0.8,
    "threshold": 0.5,
    "message": "80% dead",
}


def verdict(findings: list[dict[str, object]]) -> dict[str, object]:
    return {
        "RuleTriggered": int(bool(findings)),
        "Violations": len(findings),
        "Datapoints": 3,
        "RuleParameters": "threshold:0.5",
        "Details": {"findings": findings, "advice": "Lower the rate."},
    }


def check(step: int, gradient: float | None) -> dict[str, object]:
    return {
        "step": step,
        "mean_loss": None if step == 3 else 1.0,
        "gradients": {"a": {"mean_abs": gradient}},
        "updates": {"a": 1e-3},
        "activations": {"a": {"mean_abs": 0.4}},
        "dead_relus": {},
    }


def test_findings_and_advice_are_on_the_page() -> None:
    text = page(
        "run", {"Overfit": verdict([]), "DeadRelu": verdict([FINDING] * 20)}, [check(1, 0.1), check(3, None)], []
    )
    assert "1 of 2 rules fired" in text
    assert "stage.1&lt;b&gt;" in text
    assert "Lower the rate." in text
    assert "and 8 more" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_run_without_records_has_a_page() -> None:
    assert "0 of 1 rules fired" in page("run", {"Overfit": verdict([])}, [], [])


def test_values_that_are_not_finite() -> None:
    text = page("run", {"ExplodingTensor": verdict([FINDING | {"value": None}])}, [check(1, 0.1)], [])
    assert "not finite" in text
