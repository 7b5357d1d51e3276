import pytest

from bintally.cloud.local.ranges import Range
from bintally.cloud.local.strategies import Tried, behind_median, behind_rung, grid_size, propose

X = Range(name="x", low=0.0, high=1.0, scaling="Linear")
C = Range(name="c", values=("a", "b", "c"))


def proposed(strategy: str, tried: list[Tried], place: int, *, seed: int = 1) -> dict[str, str]:
    found = propose(strategy, [X, C], tried, place=place, seed=seed, maximize=True, jobs=30)
    assert found is not None
    return found


@pytest.mark.parametrize("strategy", ["Random", "Hyperband", "Bayesian"])
def test_the_seed_settles_what_results_do_not(strategy: str) -> None:
    assert proposed(strategy, [], 3) == proposed(strategy, [], 3)
    assert len({proposed(strategy, [], place)["x"] for place in range(20)}) == 20
    assert proposed(strategy, [], 3) != proposed(strategy, [], 3, seed=2)


def test_a_grid_ends() -> None:
    ranges = [C, Range(name="d", values=("1", "2"))]
    found = [propose("Grid", ranges, [], place=place, seed=0, maximize=True, jobs=6) for place in range(7)]
    assert found[0] == {"c": "a", "d": "1"}
    assert found[1] == {"c": "a", "d": "2"}
    assert found[5] == {"c": "c", "d": "2"}
    assert found[6] is None
    assert grid_size(ranges) == 6


def score(values: dict[str, str]) -> float:
    return -((float(values["x"]) - 0.7) ** 2) - (0 if values["c"] == "b" else 0.3)


def test_bayesian_search_finds_the_place_sooner_than_chance() -> None:
    last: dict[str, list[float]] = {}
    for strategy in ("Random", "Bayesian"):
        for seed in (100, 200, 300):
            tried: list[Tried] = []
            for place in range(30):
                values = proposed(strategy, tried, place, seed=seed)
                tried.append(Tried(values=values, objective=score(values)))
            last.setdefault(strategy, []).append(sum(one.objective or 0 for one in tried[-10:]) / 10)
    assert sum(last["Bayesian"]) > sum(last["Random"]) + 0.2


def test_bayesian_search_takes_what_others_tried_as_it_can() -> None:
    tried = [
        Tried(values={"x": "0.5", "c": "a"}, objective=1.0),
        Tried(values={"x": "0.6", "c": "b"}, running=True),
        Tried(values={"x": "0.6", "c": "b"}),
        Tried(values={"x": "7", "c": "b"}, objective=1.0),
        Tried(values={"other": "1"}, objective=float("nan")),
    ]
    assert proposed("Bayesian", tried, 5).keys() == {"x", "c"}


def at(*history: float, running: bool = True) -> Tried:
    return Tried(values={}, history=history, running=running)


def test_rungs() -> None:
    others = [at(0.5, 0.6, 0.9), at(0.4, 0.5, 0.8), at(0.3, 0.4)]
    assert not behind_rung(at(0.9), others, lowest=1, maximize=True)
    assert behind_rung(at(0.1), others, lowest=1, maximize=True)
    assert not behind_rung(at(0.1), others, lowest=1, maximize=False)
    # Nobody is behind before the first rung, or alone.
    assert not behind_rung(at(0.1), others, lowest=2, maximize=True)
    assert not behind_rung(at(0.1), [], lowest=1, maximize=True)
    # The last rung reached counts, not those before.
    assert not behind_rung(at(0.1, 0.2, 0.95), others, lowest=1, maximize=True)
    assert behind_rung(at(0.1, 0.2, 0.85, 1.0), others, lowest=1, maximize=True)


def test_medians() -> None:
    others = [at(*[value] * 5, running=False) for value in (0.2, 0.4, 0.6)]
    assert behind_median(at(0.1, 0.3), others, maximize=True)
    assert not behind_median(at(0.1, 0.5), others, maximize=True)
    assert behind_median(at(0.5, 0.5), others, maximize=False)
    assert not behind_median(at(0.1), others, maximize=True)
    assert not behind_median(at(0.1, 0.1), others[:2], maximize=True)
    assert not behind_median(at(0.1, 0.1), [at(0.9, 0.9)] * 5, maximize=True)
