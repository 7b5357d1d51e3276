"""The verdicts of the profiler rules, in the shape that users of the managed profiler know."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from bintally import settings
from bintally.learn.recording import ProfilerRule, Recording, usage

_OF_STEPS = {"Dataloader", "StepOutlier", "MemoryIncrease", "MaxInitializationTime"}


def profiler_report(rules: Mapping[str, ProfilerRule], recording: Recording) -> dict[str, dict[str, Any]]:
    """The verdicts as JSON-ready values, one entry a rule, in the shape that users of the managed profiler know.

    Returns:
        Rule name → `RuleTriggered` (1 or 0), `Violations` (findings), `Datapoints` (samples or steps looked at; 0
        when the rule does not apply), `RuleParameters` (text), `Details` (findings, advice, and `not_applicable`: why
        the rule says nothing, or None).
    """
    verdicts = {}
    for name, rule in rules.items():
        why = rule.why_not(recording)
        found = [] if why else list(rule.findings(recording))
        looked = recording.steps if name in _OF_STEPS else recording.samples
        details: dict[str, Any] = {"findings": [dataclasses.asdict(one) for one in found], "advice": rule.advice}
        details["not_applicable"] = why
        if name == "OverallSystemUsage":
            details["usage"] = usage(recording.samples)
        verdicts[name] = {
            "RuleTriggered": int(bool(found)),
            "Violations": len(found),
            "Details": details,
            "Datapoints": 0 if why else len(looked),
            "RuleParameters": "\n".join(f"{key}:{value}" for key, value in settings.as_dict(rule).items()),
        }
    return verdicts
