"""What the benchmarks stand on: tables, the program that runs them, the load generator's honesty about lost answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import Row, Table, __main__, _load


def table(ratio: float) -> Table:
    return Table(title="made", rows=[Row(what="a : b", ours="1", alternative="2", ratio=ratio, limit=1.0)])


def test_a_ratio_on_the_wrong_side_is_not_held() -> None:
    assert table(1.0).is_held
    assert not table(0.99).is_held
    assert not Row(what="", ours="", alternative="", ratio=1.01, limit=1.0, at_most=True).is_held
    assert "NOT HELD" in str(table(0.5))
    assert "NOT HELD" not in str(table(1.5))


def raising(error: BaseException) -> Any:
    def main() -> Table:
        raise error

    return main


def test_one_that_cannot_run_or_breaks_does_not_cost_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mains = {
        "benchmarks.engine": raising(SystemExit("this benchmark needs BINTALLY_ABID")),
        "benchmarks.jpeg": raising(RuntimeError("a server died")),
        "benchmarks.serve": lambda: table(2.0),
    }
    monkeypatch.setattr(__main__.importlib, "import_module", lambda name: SimpleNamespace(main=mains[name]))
    assert __main__.main(["engine", "jpeg", "serve"]) == 1
    out, err = capsys.readouterr()
    assert "made" in out
    assert "engine: this benchmark needs BINTALLY_ABID" in err
    assert "a server died" in err
    assert __main__.main(["serve"]) == 0


@contextmanager
def answering(*answers: bytes | None) -> Iterator[int]:
    """A server that gives its n-th connection the n-th answer: bytes, or None for silence; then it closes."""
    release = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def work() -> None:
            for answer in answers:
                connection, _ = server.accept()
                connections.append(connection)
                if answer is None:
                    continue
                if answer:
                    connection.recv(65536)
                    connection.sendall(answer)
                connection.close()
            release.wait(30)

        connections: list[socket.socket] = []
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            release.set()
            thread.join(30)
            for connection in connections:
                connection.close()


def test_a_request_without_an_answer_is_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_load, "PATIENCE_S", 0.2)
    with answering(None) as port:
        # One connection, one request: `most` lets no second one open.
        shots = _load.shoot(port, [_load.request_of(b"x")], rate=4.0, seconds=0.1, most=1)
    assert [shot.status for shot in shots] == [0]


def test_a_connection_that_breaks_is_lost_once() -> None:
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    with answering(whole[:20], whole) as port:
        shots = _load.shoot(port, [_load.request_of(b"x")], clients=1, number=2, seconds=20.0)
    assert sorted(shot.status for shot in shots) == [0, 200]
