"""A profile finds where the time goes: phases add up, a sleeping loader shows, levers are tried."""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bintally.errors import UsageError
from bintally.learn import levers, loader
from bintally.learn.measure import PHASES, ProfileSettings
from bintally.learn.profile import headline, profile
from bintally.learn.recipe import Recipe

QUICK = ProfileSettings(steps=4, warmup=5, traced=1, interval=0.02, tries=0, try_steps=3)
MakeManifest = Callable[..., Any]


@pytest.fixture
def photos(make_manifest: MakeManifest) -> Any:
    return make_manifest(num=40)


@pytest.fixture
def slow_loader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each photo takes 0.3 s more to read: much beside what a busy machine adds."""
    read = loader.read_square

    def slow(data: bytes, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        time.sleep(0.3)
        return read(data, size)

    monkeypatch.setattr(loader, "read_square", slow)
    return None


def test_phases_add_up_and_files_are_written(tmp_path: Path, photos: Any, tiny: Callable[..., Recipe]) -> None:
    before = torch.get_rng_state()
    found = profile(photos, tiny(), tmp_path / "out", QUICK)
    assert set(found["phases"]) == set(PHASES)
    total = sum(one["seconds"] for one in found["phases"].values())
    assert total == pytest.approx(found["step_seconds"]["mean"], rel=0.01)
    assert sum(one["share"] for one in found["phases"].values()) == pytest.approx(1, abs=0.001)
    steps = found["steps"]
    assert len(steps) == found["measured_steps"] == 4
    # The clock beside the phases: a step begins where the one before it ended, but for the ends of epochs.
    pairs = [(one, two) for one, two in itertools.pairwise(steps) if (two["step"] - 1) % 3]
    gaps = [two["started"] - one["started"] - sum(one[name] for name in PHASES) for one, two in pairs]
    assert min(gaps) > -0.001
    assert min(gaps) < 0.02
    assert found["photos_per_second"] == pytest.approx(8 / found["step_seconds"]["mean"], rel=0.01)
    assert found["source"] == "memory"
    assert {one["verdict"] for one in found["advice"]} <= {"not tried"}
    assert found["samples"][0]["rss_mb"] > 10
    assert any("conv" in one["name"] for one in found["operators"])
    written = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert written["phases"] == found["phases"]
    trace = json.loads((tmp_path / "out" / found["trace"]).read_text())
    assert {"forward", "backward", "optimizer"} <= {event.get("name") for event in trace["traceEvents"]}
    assert (tmp_path / "out" / "Dataloader.json").exists()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_a_loader_that_sleeps_is_waited_for(
    tmp_path: Path,
    make_manifest: MakeManifest,
    tiny: Callable[..., Recipe],
    slow_loader: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def workers_alone(recipe: Recipe, measured: levers.Measured) -> list[levers.Lever]:
        return [one for one in levers.choose(recipe, measured) if one.name == "workers"]

    monkeypatch.setattr("bintally.learn.profile.choose", workers_alone)
    how = dataclasses.replace(QUICK, epoch="first", warmup=4, steps=3, traced=0, tries=1)
    found = profile(make_manifest(num=60), tiny(workers=1, batch_size=4), tmp_path / "out", how)
    assert found["source"] == "disk"
    assert found["phases"]["waiting"]["share"] > 0.4
    assert found["decode"]["ms_each"] > 20
    assert found["loader"]["photos_per_second"] < 60
    assert found["rules"]["Dataloader"]["RuleTriggered"] == 1
    wheres = [one["where"] for one in found["rules"]["Dataloader"]["Details"]["findings"]]
    assert "waiting for data" in wheres
    (workers,) = found["advice"]
    assert workers["times"] > 1, "two threads sleep at once"
    # Whether it pays is a measurement, which a busy machine may spoil; how that is judged has tests of its own.
    assert ("times, measured" in found["headline"]) == (workers["verdict"] == "pays")


def test_the_folder_may_not_be_a_file(tmp_path: Path, photos: Any, tiny: Callable[..., Recipe]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        profile(photos, tiny(), tmp_path / "file", QUICK)


def lever(name: str, verdict: str, times: float | None) -> dict[str, Any]:
    return {"name": name, "verdict": verdict, "times": times, "line": f"{name}: {times} times."}


def test_the_headline_names_what_gains_most() -> None:
    found = {"phases": {"forward": {"share": 0.7}, "waiting": {"share": 0.3}}}
    slow, quick = lever("a", "pays", 1.2), lever("b", "pays", 1.5)
    both = lever("a, b", "pays", 1.7)
    assert headline(found, [slow, quick], both) == "Change a, b: 1.7 times."
    assert headline(found, [slow, quick], lever("a, b", "pays", 1.3)) == "Change b: 1.5 times."
    bad = lever("a", "does not pay", 0.9)
    assert headline(found, [bad], None).startswith("Change nothing: the one lever tried did not pay; forward takes")
    assert headline(found, [bad, bad], None).startswith("Change nothing: none of 2 levers tried paid")
    assert headline(found, [lever("a", "not tried", None)], None).startswith("Change a")
    assert headline(found, [], None).endswith("forward takes 70% of a step.")
