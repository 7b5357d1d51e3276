"""The verdicts of the profiler rules, in the familiar shape."""

import json
from pathlib import Path

from bintally.learn.profiler_report import profiler_report
from bintally.learn.profiler_rules import PROFILER_RULES, load_profiler_rules
from bintally.learn.recording import Recording, StepTime
from bintally.learn.watch import write_report
from tests.learn.recordings import samples


def test_files_in_the_familiar_shape(tmp_path: Path) -> None:
    verdicts = profiler_report(load_profiler_rules(), Recording(samples=samples(io=99), workers=9, cores=1))
    write_report(tmp_path, verdicts)
    assert {path.stem for path in tmp_path.iterdir()} == set(PROFILER_RULES)
    found = json.loads((tmp_path / "IOBottleneck.json").read_text())
    assert set(found) == {"RuleTriggered", "Violations", "Details", "Datapoints", "RuleParameters"}
    assert (found["RuleTriggered"], found["Violations"], found["Datapoints"]) == (1, 1, 20)
    assert "io_threshold:50.0" in found["RuleParameters"]
    used = json.loads((tmp_path / "OverallSystemUsage.json").read_text())["Details"]["usage"]
    assert used["io_wait_percent"] == {"mean": 99, "p50": 99, "p95": 99, "max": 99}


def test_rules_of_gpus_do_not_apply_without_one() -> None:
    verdicts = profiler_report(
        load_profiler_rules(), Recording(samples=samples(), steps=[StepTime(step=1, forward=1)])
    )
    silent = {name for name, one in verdicts.items() if "no GPU" in (one["Details"]["not_applicable"] or "")}
    assert silent == {"BatchSize", "LowGPUUtilization", "CPUBottleneck", "GPUMemoryIncrease"}
    assert "fewer than 2 GPUs" in verdicts["LoadBalancing"]["Details"]["not_applicable"]
    assert verdicts["BatchSize"]["Datapoints"] == verdicts["BatchSize"]["RuleTriggered"] == 0


def test_nothing_recorded_is_no_crash() -> None:
    verdicts = profiler_report(load_profiler_rules(), Recording())
    assert [name for name, one in verdicts.items() if one["RuleTriggered"]] == []
