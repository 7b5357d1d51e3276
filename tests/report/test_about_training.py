"""The middle chapters: tuning, curves, rules and profile where they were made, one line where they were not."""

from dataclasses import replace
from pathlib import Path

import pytest

from bintally.report.about_training import duration, profiling, training, tuning, watching
from bintally.report.document import Missing, Plots, Table
from tests.report import made, test_tune


def test_a_tuning_is_told_with_its_verdict(tmp_path: Path) -> None:
    section = tuning(made.whole(tmp_path))
    text = made.text_of(section)
    for said in (
        "6 trials (4 complete, 1 fail, 1 pruned) in 10.0 minutes",
        "better than by chance",
        "logarithmic",
        "0.00123",
    ):
        assert said in text, said
    assert "32, 64" in text
    (plots,) = [one for one in section.blocks if isinstance(one, Plots)]
    assert len(plots.plots) == 4
    unsure = replace(made.whole(tmp_path / "b"), tune=test_tune.found(verdict=None))
    assert "not trained again" in made.text_of(tuning(unsure))


def test_the_training_is_told_epoch_by_epoch(tmp_path: Path) -> None:
    text = made.text_of(training(made.bare(tmp_path)))
    assert "3 epochs in 4.2 minutes on cpu. Epoch 2 is kept: 40.0 % right" in text
    assert "Every epoch" in text


def test_many_epochs_are_thinned_and_the_best_one_stays(tmp_path: Path) -> None:
    found = made.bare(tmp_path)
    rows = [dict(found.history[0]) | {"epoch": float(n), "validation_nll": 2.0} for n in range(1, 101)]
    rows[36]["validation_nll"] = 1.0
    (table,) = [one for one in training(replace(found, history=rows)).blocks if isinstance(one, Table)]
    epochs = [row[0] for row in table.rows]
    assert len(epochs) <= 12
    assert {"1", "37", "100"} <= set(epochs)
    assert table.caption == "Some of the 100 epochs"


@pytest.mark.parametrize(
    ("status", "why"), [("running", ""), ("stopped", "SIGTERM came"), ("failed", "the loss is inf")]
)
def test_a_training_that_is_not_finished_says_so(tmp_path: Path, status: str, why: str) -> None:
    found = made.bare(tmp_path, status=status, why=why)
    assert f"This training is {status}{': ' + why if why else ''}." in made.text_of(training(found))
    (run := found.run / "history.csv").unlink()
    blocks = training(replace(found, history=())).blocks
    assert isinstance(blocks[-1], Missing)
    assert not run.exists()


def test_findings_stand_with_their_advice(tmp_path: Path) -> None:
    text = made.text_of(watching(made.whole(tmp_path)))
    for said in (
        "at 2 steps",
        "2 rules; 1 of them fired",
        "Quiet: Overfit",
        "80% dead",
        "Lower the rate.",
        "20 findings",
    ):
        assert said in text, said
    material = made.whole(tmp_path / "b")
    once = {name: {**one, "Violations": 1} for name, one in material.verdicts.items()}
    assert "1 finding in" in made.text_of(watching(replace(material, verdicts=once)))


def test_a_profile_is_told_with_what_to_change(tmp_path: Path) -> None:
    text = made.text_of(profiling(made.whole(tmp_path)))
    for said in (
        "Change channels_last & more",
        "12.3 → 17.1 photos/s",
        "waiting for data",
        "Set <workers>.",
        "BatchSize",
    ):
        assert said in text, said


def test_what_was_not_done_is_one_line_with_its_command(tmp_path: Path) -> None:
    found = made.bare(tmp_path)
    for chapter, command in ((tuning, "bintally tune"), (watching, "--watch"), (profiling, "bintally profile")):
        (block,) = chapter(found).blocks
        assert isinstance(block, Missing)
        assert command in block.command


def test_durations_for_people() -> None:
    assert [duration(one) for one in (17.4, 600.0, 9000.0, None)] == [
        "17 s",
        "10.0 minutes",
        "2.5 hours",
        "an unknown time",
    ]


def test_a_managed_tuning_is_told_as_the_service_lists_it(tmp_path: Path) -> None:
    rows = [
        {"name": f"t-{n}", "status": "Completed", "metric": "validation:nll", "value": 1.3 + n / 10, "seconds": 60.0}
        | {"tuned": {"train.head_lr": f"{10.0 ** -(n + 1)}", "train.optimizer": '"adam"'}}
        for n in range(3)
    ]
    failed = {"name": "t-9", "status": "Failed", "metric": None, "value": None, "seconds": None, "tuned": {}}
    job = {"kind": "tuning", "name": "search", "status": "Completed", "best": "t-0", "trainings": [*rows, failed]}
    section = tuning(replace(made.bare(tmp_path), jobs=[job]))
    text = made.text_of(section)
    assert "4 trainings (3 Completed, 1 Failed), judged by `validation:nll`. The best is `t-0`" in text
    (table,) = [one for one in section.blocks if isinstance(one, Table)]
    assert table.rows[0] == ("1", "1.3000", "0.1", "adam", "Completed")
    assert table.rows[3][1] == "–"
    (plots,) = [one for one in section.blocks if isinstance(one, Plots)]
    assert [one.caption for one in plots.plots] == ["validation:nll of each training, by train.head_lr"]
