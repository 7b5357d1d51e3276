"""Whatever lies in a run's folder is read; what is not there is told apart from what is damaged."""

import json
from pathlib import Path

import pytest

from bintally.errors import RunError
from bintally.report.gather import gather
from tests.report import made


def test_everything_is_read(tmp_path: Path) -> None:
    found = made.whole(tmp_path)
    assert found.about["seconds"] == 250.0
    assert len(found.history) == 3
    assert found.card is not None
    assert found.evaluation is not None
    assert set(found.verdicts) == {"DeadRelu", "Overfit"}
    assert [one["step"] for one in found.checks] == [1, 3]
    assert found.tune is not None
    assert [row["trial"] for row in found.trials] == list("012345")
    assert found.profile is not None
    assert [one["who"] for one in found.published] == ["abid_challenge", "projects"]


def test_a_run_that_was_only_trained(tmp_path: Path) -> None:
    found = made.bare(tmp_path)
    assert (found.evaluation, found.tune, found.profile, found.data) == (None, None, None, None)
    assert not any((found.verdicts, found.checks, found.trials, found.jobs, found.published))
    assert found.read_photo("1") is None


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run of `bintally train`"):
        gather(tmp_path)
    run = made.trained(tmp_path / "run")
    for name in ("tune", "profile"):
        with pytest.raises(RunError, match=f"`bintally {name}` writes it"):
            gather(run, **{name: tmp_path / "elsewhere"})
    with pytest.raises(RunError, match="cloud status"):
        gather(run, jobs=(tmp_path / "job.json",))


@pytest.mark.parametrize("name", ["run.json", "evaluation/evaluation.json", "tune/tune.json", "watch/Overfit.json"])
def test_what_is_damaged_is_said(tmp_path: Path, name: str) -> None:
    run = made.everything(tmp_path / "run")
    (run / name).write_text('{"half', encoding="utf-8")
    with pytest.raises(RunError, match="damaged"):
        gather(run)


def test_the_last_line_of_a_training_under_way_may_be_half_written(tmp_path: Path) -> None:
    run = made.everything(tmp_path / "run")
    path = run / "watch" / "checks.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + '{"step": 4, "mean', encoding="utf-8")
    assert [one["step"] for one in gather(run).checks] == [1, 3]
    path.write_text('{"step"\n' + whole, encoding="utf-8")
    with pytest.raises(RunError, match="damaged in line 1"):
        gather(run)


def test_records_of_an_older_version_lack_what_came_later(tmp_path: Path) -> None:
    run = made.everything(tmp_path / "run")
    old = {"step": 1, "mean_loss": 1.0, "gradients": {}, "updates": {}, "dead_relus": {}}
    (run / "watch" / "checks.jsonl").write_text(json.dumps(old) + "\n", encoding="utf-8")
    assert gather(run).checks[0]["activations"] == {}


def test_other_files_in_the_folder_of_verdicts_are_none(tmp_path: Path) -> None:
    run = made.everything(tmp_path / "run")
    (run / "watch" / "notes.json").write_text("{}", encoding="utf-8")
    assert set(gather(run).verdicts) == {"DeadRelu", "Overfit"}
