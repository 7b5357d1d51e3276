import json
from pathlib import Path

import pytest

from bintally.cloud.local.state import State, shown
from bintally.errors import BintallyError, UsageError


def taken() -> Exception:
    return ValueError("taken")


def test_it_survives_a_restart(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    for name in ("job-1", "Job-1", "ünder/%41"):
        state.add("training-job", name, {"Name": name, "LastModifiedTime": 1.0}, taken)
    state.change("training-job", "job-1", Status="Done")
    state.add("model", "gone", {}, taken)
    state.remove("model", "gone")
    state.close()
    again = State(tmp_path / "state")
    assert sorted(again.names("training-job")) == ["Job-1", "job-1", "ünder/%41"]
    job = again.get("training-job", "job-1")
    assert job is not None
    assert job["Status"] == "Done"
    assert job["LastModifiedTime"] > 1.0
    assert again.get("training-job", "Job-1") == {"Name": "Job-1", "LastModifiedTime": 1.0}
    assert again.get("model", "gone") is None
    again.close()


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.add("model", "a", {}, taken)
    with pytest.raises(ValueError, match="taken"):
        state.add("model", "a", {}, taken)
    state.close()


def test_nobody_changes_what_is_kept_from_outside(tmp_path: Path) -> None:
    state = State(tmp_path)
    given = {"list": [1]}
    state.add("model", "a", given, taken)
    given["list"].append(2)
    state.all("model")[0]["list"].append(3)
    assert state.get("model", "a") == {"list": [1]}
    state.close()


def test_changes_on_condition(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.add("endpoint", "a", {"Status": "Creating", "Reason": "x"}, taken)
    assert state.change_if("endpoint", "a", lambda one: one["Status"] == "InService", Status="Deleting") is None
    changed = state.change_if(
        "endpoint", "a", lambda one: one["Status"] == "Creating", Status="InService", Reason=None
    )
    assert changed == {"Status": "InService"} == state.get("endpoint", "a")
    assert state.change("endpoint", "nobody", Status="x") == {}
    state.close()


def test_one_service_a_folder(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    with pytest.raises(UsageError, match="another `bintally cloud local` runs"):
        State(tmp_path / "state")
    state.close()
    State(tmp_path / "state").close()


def test_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.json").write_text("{")
    with pytest.raises(BintallyError, match=r"a\.json is damaged"):
        State(tmp_path)


def test_a_person_can_read_it(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.add("model", "mine", {"ModelName": "mine", "_tags": []}, taken)
    assert json.loads((tmp_path / "model" / "mine.json").read_text()) == {"ModelName": "mine", "_tags": []}
    assert shown(state.all("model")[0]) == {"ModelName": "mine"}
    state.close()
