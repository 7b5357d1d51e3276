"""What is chosen of runs, whatever is made of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bintally.errors import RunError, SettingsError
from bintally.learn.combine import Making, choose

A, B, C = Path("a"), Path("b"), Path("c")
NLL = {(A,): 1.3, (B,): 1.2, (C,): 1.5, (B, A): 1.1, (B, A, C): 1.15}


def score(those: Sequence[Path]) -> dict[str, float]:
    return {"nll": NLL[tuple(those)]}


def test_greedy_begins_with_the_best_and_keeps_what_helps() -> None:
    taken, tried = choose([A, B, C], score, greedy=True, judged=True)
    assert taken == (B, A)
    assert [those for those, _ in tried] == [(A,), (B,), (C,), (B, A), (B, A, C)]


def test_all_of_them_or_the_only_one() -> None:
    assert choose([B, A, C], score, greedy=False, judged=True) == ((B, A, C), [((B, A, C), {"nll": 1.15})])
    assert choose([A], score, greedy=True, judged=True) == ((A,), [((A,), {"nll": 1.3})])


def test_without_photos_to_choose_by_all_are_taken_or_none() -> None:
    assert choose([B, A], score, greedy=False, judged=False) == ((B, A), [((B, A), {})])
    assert choose([A], score, greedy=True, judged=False) == ((A,), [((A,), {})])
    with pytest.raises(SettingsError, match="nothing to choose by"):
        choose([B, A], score, greedy=True, judged=False)


def test_nothing_begins_over_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at least one"):
        Making.begin("soup", [], tmp_path / "new", None, force=False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(RunError, match="--force"):
        Making.begin("soup", [A], tmp_path / "run", None, force=False)
    assert Making.begin("soup", [A], tmp_path / "run", None, force=True).runs == (A,)
    (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="no run folder"):
        Making.begin("soup", [A], tmp_path / "run", None, force=True)
