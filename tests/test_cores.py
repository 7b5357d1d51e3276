import os

import pytest

from bintally.cores import num_cores


def test_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert num_cores() == 3


@pytest.mark.parametrize(("told", "cores"), [(8, 8), (None, 1)])
def test_where_one_cannot_ask(monkeypatch: pytest.MonkeyPatch, told: int | None, cores: int) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: told)
    assert num_cores() == cores
