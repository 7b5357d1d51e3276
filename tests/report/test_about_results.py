"""The last chapters: figures with intervals beside the published ones, photos, cost, and a summary that does not flatter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bintally.report.about_results import again, cost, examples, results, summary
from bintally.report.document import Missing, Pictures, Plots
from tests.report import made


def ends(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def changed(tmp_path: Path, **scope: Any) -> str:
    found = made.whole(tmp_path)
    assert found.evaluation is not None
    own = found.evaluation["scopes"][0]
    return made.text_of(summary(replace(found, evaluation=found.evaluation | {"scopes": [own | scope]})))


def test_results_stand_beside_the_published_ones(tmp_path: Path) -> None:
    section = results(made.whole(tmp_path))
    text = made.text_of(section)
    for said in ("95 %", "temperature 1.25", "abid_challenge", "26 to 36 %", "120 photos are few", "Brier score"):
        assert said in text, said
    assert sum(len(one.plots) for one in section.blocks if isinstance(one, Plots)) == 4


def test_an_evaluation_without_temperature(tmp_path: Path) -> None:
    found = made.whole(tmp_path)
    assert found.evaluation is not None
    bare = found.evaluation | {"calibration": None, "scopes": [found.evaluation["scopes"][0] | {"calibrated": None}]}
    assert "no temperature was fitted" in made.text_of(results(replace(found, evaluation=bare)))


def test_examples_are_picked_by_chance_right_and_wrong(tmp_path: Path) -> None:
    section = examples(made.whole(tmp_path))
    shown = [one for one in section.blocks if isinstance(one, Pictures)]
    assert [len(one.pictures) for one in shown] == [3, 1, 2]
    wrong = shown[2].pictures[0]
    assert wrong.title == "00001: record 2, counted 4"
    assert [bar.mark for bar in wrong.bars] == ["", "", "label", "", "said", ""]
    assert "2 × <script>alert(1)</script>" in wrong.lines
    assert "no item on record" in shown[2].pictures[1].lines
    assert all(picture.uri.startswith("data:image/jpeg") for one in shown for picture in one.pictures)


def test_an_older_evaluation_kept_mistakes_alone(tmp_path: Path) -> None:
    found = made.whole(tmp_path)
    old = {key: value for key, value in (found.evaluation or {}).items() if key not in {"right", "sample"}}
    blocks = examples(replace(found, evaluation=old)).blocks
    assert [len(one.pictures) for one in blocks if isinstance(one, Pictures)] == [2]
    assert any(isinstance(one, Missing) and "bintally evaluate" in one.command for one in blocks)


def test_without_an_evaluation_there_is_one_line(tmp_path: Path) -> None:
    found = made.bare(tmp_path)
    for chapter in (results, examples):
        (block,) = chapter(found).blocks
        assert isinstance(block, Missing)
        assert block.command == f"bintally evaluate {found.run}"
    text = made.text_of(summary(found))
    assert "40.0 % right on the validation part, by which the epoch was chosen" in text
    assert "there is no result yet" in made.text_of(summary(replace(found, history=())))


def test_the_summary_says_whether_it_is_more_than_chance(tmp_path: Path) -> None:
    for name, gain, said in (
        ("a", ends(0.1, 0.05, 0.15), "better than"),
        ("b", ends(0.01, -0.02, 0.04), "not told apart from"),
        ("c", ends(-0.1, -0.15, -0.05), "worse than"),
    ):
        assert f"It is {said} a counter that never looks" in changed(tmp_path / name, gain={"accuracy": gain}), said


def test_the_summary_compares_with_the_published_of_the_same_counts_alone(tmp_path: Path) -> None:
    found = made.whole(tmp_path)
    assert found.evaluation is not None
    own = found.evaluation["scopes"][0]
    for name, accuracy, said in (
        ("low", ends(0.3, 0.25, 0.35), "below"),
        ("near", ends(0.55, 0.5, 0.6), "level with"),
        ("high", ends(0.7, 0.65, 0.75), "above"),
    ):
        best = own["raw"] | {"figures": own["raw"]["figures"] | {"accuracy": accuracy}}
        text = changed(tmp_path / name, raw=best, calibrated=best)
        assert f"That is {said} what abid_challenge published for 0-5: 55.7 % (on a shuffled split" in text
        assert "projects" not in text


def test_the_summary_tells_honest_probabilities_from_others(tmp_path: Path) -> None:
    assert "not quite honest" in changed(tmp_path / "a")  # 0.08, where chance alone makes 0.05 at most
    found = made.whole(tmp_path / "b")
    assert found.evaluation is not None
    own = found.evaluation["scopes"][0]["raw"]
    error = {"error": 0.04, "chance_mean": 0.03, "chance_high": 0.05}
    best = own | {"calibration_error": {"width": error, "mass": error}}
    assert "as honest as" in changed(tmp_path / "c", raw=best, calibrated=best)


def test_the_summary_tells_findings(tmp_path: Path) -> None:
    text = changed(tmp_path)
    assert "Debug rules that fired: DeadRelu." in text
    assert "Tuning: trial 3" in text
    assert "Profile: Change channels_last & more" in text


def test_cost_is_time_here_and_money_there(tmp_path: Path) -> None:
    text = made.text_of(cost(made.whole(tmp_path)))
    assert "4.2 minutes" in text
    assert "10.0 minutes" in text
    assert "bintally cloud status" in text


def test_jobs_are_told_with_their_money(tmp_path: Path) -> None:
    job = {"kind": "training", "name": "j", "status": "Completed", "billed_seconds": 1800, "instance": "ml.m5.xlarge"}
    priced = job | {"instances": 2, "spot": True, "usd": 0.234, "prices": "2026-11-22, us-east-1"}
    search = {
        "kind": "tuning",
        "name": "s",
        "status": "Completed",
        "trainings": [{"seconds": 60.0}, {"seconds": None}],
    }
    text = made.text_of(cost(replace(made.bare(tmp_path), jobs=[priced, job, search])))
    for said in ("30.0 minutes", "2 × ml.m5.xlarge, spare capacity, Completed", "0.23", "2026-11-22", "2 trainings"):
        assert said in text, said
    assert "bintally cloud status" not in text
    assert "by a table of prices" not in made.text_of(cost(replace(made.bare(tmp_path / "b"), jobs=[job])))


def test_what_it_takes_to_make_it_again(tmp_path: Path) -> None:
    text = made.text_of(again(made.whole(tmp_path)))
    assert "dddddddddddddddd of /bins" in text
    assert "2 times, last on 2026-11-23" in text
    assert "belong on the validation part" in text
