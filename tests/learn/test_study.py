"""The study: a journal that any crash leaves readable, every point of a grid, no trial lost and none counted twice."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from bintally.errors import SettingsError
from bintally.learn.space import Dimension, Space
from bintally.learn.study import TuneSettings, best_trials, mend, open_study, point_of, prepare, tried

SPACE = Space(
    dimensions=(
        Dimension(name="a.x", low=0.0, high=1.0, grid=(0.0, 0.5, 1.0)),
        Dimension(name="a.y", choices=("p", "q")),
    )
)
SETTINGS = TuneSettings(trials=8)


def run(study: optuna.Study, num: int) -> list[dict[str, object]]:
    values = []
    for _ in range(num):
        trial = study.ask()
        values.append(SPACE.suggest(trial))
        study.tell(trial, float(values[-1]["a.x"]))  # type: ignore[arg-type]
    return values


@pytest.mark.parametrize("torn", [b"", b'{"op_code":4,"wor', b'{"a":1}'])
def test_a_half_written_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    run(open_study(tmp_path, SETTINGS, epochs=3), 2)
    journal = tmp_path / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    mend(tmp_path)
    assert journal.read_bytes() == whole
    study = open_study(tmp_path, SETTINGS, epochs=3)
    run(study, 1)
    assert len(study.trials) == 3


def test_mending_nothing(tmp_path: Path) -> None:
    mend(tmp_path)
    (tmp_path / "study.log").write_bytes(b"half a first line")
    mend(tmp_path)
    assert (tmp_path / "study.log").read_bytes() == b""


def test_what_was_running_is_queued_again_and_not_counted(tmp_path: Path) -> None:
    study = open_study(tmp_path, SETTINGS, epochs=3)
    run(study, 2)
    lost = study.ask()
    values = SPACE.suggest(lost)
    again = open_study(tmp_path, SETTINGS, epochs=3)
    assert prepare(again, SPACE, {}, SETTINGS) == 6
    trial = again.ask()
    assert SPACE.suggest(trial) == values
    assert trial.user_attrs["again"] == lost.number
    assert len(tried(again)) == 2


def test_the_recipes_own_values_come_first_and_once(tmp_path: Path) -> None:
    own = {"a.x": 0.25, "a.y": "q"}
    study = open_study(tmp_path, SETTINGS, epochs=3)
    prepare(study, SPACE, own, SETTINGS)
    assert run(study, 1) == [own]
    prepare(study, SPACE, own, SETTINGS)
    assert own not in run(study, 3)
    prepare(study, SPACE, {"a.x": 7.0, "a.y": "q"}, SETTINGS)  # outside of the space: not tried
    assert all(value["a.x"] != 7.0 for value in run(study, 1))


def test_a_grid_is_queued_once_whatever_happens(tmp_path: Path) -> None:
    settings = replace(SETTINGS, sampler="grid", trials=100)
    study = open_study(tmp_path, settings, epochs=3)
    assert prepare(study, SPACE, {}, settings) == 6
    first = run(study, 2)
    study.ask()  # and the process dies
    study = open_study(tmp_path, settings, epochs=3)
    assert prepare(study, SPACE, {}, settings) == 4
    points = [tuple(one.values()) for one in first + run(study, 4)]
    assert sorted(points) == [(x, y) for x in (0.0, 0.5, 1.0) for y in ("p", "q")]  # type: ignore[comparison-overlap]
    assert prepare(study, SPACE, {}, settings) == 0
    assert prepare(study, SPACE, {}, replace(settings, trials=3)) == 0


def test_too_fine_a_grid_is_refused(tmp_path: Path) -> None:
    fine = Space(dimensions=tuple(Dimension(name=f"a.x{n}", low=0.0, high=1.0) for n in range(7)))
    settings = replace(SETTINGS, sampler="grid")
    with pytest.raises(SettingsError, match="a grid of 78,125 points is too fine"):
        prepare(open_study(tmp_path, settings, epochs=3), fine, {}, settings)


def test_the_best_are_of_different_values(tmp_path: Path) -> None:
    for objective, expected in (("nll", [0.1, 0.2]), ("accuracy", [0.3, 0.2])):
        folder = tmp_path / objective
        folder.mkdir()
        study = open_study(folder, replace(SETTINGS, objective=objective), epochs=3)  # type: ignore[arg-type]
        for value in (0.2, 0.1, 0.1, 0.3):
            study.enqueue_trial({"a.x": value, "a.y": "p"})
        run(study, 4)
        study.tell(study.ask(), state=TrialState.FAIL)
        assert [trial.params["a.x"] for trial in best_trials(study, 2)] == expected
        assert point_of(study.trials[0]) == {"a.x": 0.2, "a.y": "p"}


def test_other_luck_gives_other_values(tmp_path: Path) -> None:
    found = []
    for name, luck in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        found.append(run(open_study(tmp_path / name, SETTINGS, epochs=3, luck=luck), 3))
    assert found[0] == found[1] != found[2]
