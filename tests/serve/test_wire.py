"""Clients that send slowly, too much, or nothing."""

import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.serve.stand_in import Server, photo, serving

HEAD = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wire")
    with serving(folder, queue=4, max_photos=4, max_body_mb=1, header_timeout_s=1, body_timeout_s=1) as running:
        yield running


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as sock:
        yield sock


def everything(sock: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            found += piece
    return found


def one_answer(sock: socket.socket) -> bytes:
    """One whole answer off a connection that stays open: its head and body may come in two pieces."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += received(sock)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += received(sock)
    assert len(body) == length
    return head + b"\r\n\r\n" + body


def received(sock: socket.socket) -> bytes:
    piece = sock.recv(65536)
    assert piece, "the server closed the connection"
    return piece


def test_slow_headers_are_given_up(server: Server) -> None:
    with connected(server) as sock:
        began = time.perf_counter()
        sock.sendall(b"POST /invoc")
        assert everything(sock).startswith(b"HTTP/1.1 408")
        assert 0.9 < time.perf_counter() - began < 4


def test_slow_headers_of_a_second_request_too(server: Server) -> None:
    with connected(server) as sock:
        sock.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert one_answer(sock).startswith(b"HTTP/1.1 200")
        sock.sendall(b"GET /pi")
        assert everything(sock).startswith(b"HTTP/1.1 408")


def test_a_client_that_says_nothing_is_let_go(server: Server) -> None:
    with connected(server) as sock:
        assert everything(sock) == b""


def test_a_slow_body_is_given_up(server: Server) -> None:
    with connected(server) as sock:
        sock.sendall(HEAD + b"content-length: 1000\r\n\r\nabc")
        assert everything(sock).startswith(b"HTTP/1.1 408")


def test_huge_headers_are_refused(server: Server) -> None:
    with connected(server) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"GET /ping HTTP/1.1\r\n" + b"x-filler: " + b"y" * 300_000)
        assert everything(sock).startswith(b"HTTP/1.1 431")


def test_a_refused_body_is_drained_so_that_the_answer_arrives(server: Server) -> None:
    body = b"x" * 3_000_000
    with connected(server) as sock:
        sock.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert one_answer(sock).startswith(b"HTTP/1.1 413")
        sock.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")  # the connection is still good
        assert one_answer(sock).startswith(b"HTTP/1.1 200")


def test_a_refused_body_that_never_ends_is_cut_off(server: Server) -> None:
    with connected(server) as sock:
        sock.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        with pytest.raises(ConnectionError):
            sock.sendall(piece * 4000)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with connected(server) as sock:
        sock.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\nGET /no HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        found = everything(sock)
        assert found.index(b"HTTP/1.1 200") < found.index(b"HTTP/1.1 404")


def test_a_client_that_goes_away_leaves_nothing_behind(server: Server) -> None:
    body = photo()
    for _ in range(20):
        with connected(server) as sock:
            sock.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    time.sleep(0.5)
    assert "bintally_queue 0.0" in httpx.get(f"{server.url}/metrics").text


def test_a_hundred_slow_clients_hold_nobody_up(server: Server) -> None:
    # The queue has four places. A hundred clients send a byte now and then; others are served as if they were not there.
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(100)]
        for place, sock in enumerate(slow):
            sock.sendall(HEAD + (b"content-length: 1000\r\n\r\nx" if place % 2 else b"x-"))
        data = photo()
        with httpx.Client(base_url=server.url) as client:
            stop = time.monotonic() + 0.8
            times = []
            while time.monotonic() < stop:
                for sock in slow:
                    with contextlib.suppress(OSError):
                        sock.send(b"a")
                began = time.perf_counter()
                answer = client.post("/invocations", content=data, headers={"content-type": "image/jpeg"})
                times.append(time.perf_counter() - began)
                assert answer.status_code == 200
            assert sorted(times)[len(times) // 2] < 0.2
