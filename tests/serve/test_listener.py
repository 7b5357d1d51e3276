"""Workers that accept from one socket share clients who come at once, and whoever is left alone takes all."""

import asyncio
import socket
from pathlib import Path

from bintally.serve.listener import FairListener
from bintally.serve.slots import Slots
from tests.serve.stand_in import photo, serving

REQUEST = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n"
ROUNDS = 8


def test_clients_who_come_at_once_are_shared(tmp_path: Path) -> None:
    body = photo()
    with serving(tmp_path, workers=2) as server:
        for _ in range(ROUNDS):
            clients = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(8)]
            for one in clients:
                one.sendall(REQUEST % len(body) + body)
            assert all(one.recv(65536).startswith(b"HTTP/1.1 200") for one in clients)
            for one in clients:
                one.close()
        assert server.stop() == 0
        served = [line["pid"] for line in server.events("request")]
    assert len(served) == 8 * ROUNDS
    # All by one is what this is against; how evenly depends on who gets the processor, so that one round may be uneven.
    workers = {line["pid"] for line in server.events("ready")}
    rounds = [served[8 * number :][:8] for number in range(ROUNDS)]
    assert max(min(one.count(pid) for pid in workers) for one in rounds) >= 2


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


def test_one_that_is_ahead_accepts_all_the_same() -> None:
    slots = Slots(4, workers=2)
    slots.connections = 100  # the other one has none, and never answers

    async def ask() -> list[bytes]:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            listener = FairListener(sock, Greeter, slots, backlog=16)
            found = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*sock.getsockname())
                found.append(await asyncio.wait_for(reader.read(), 10))
                writer.close()
            listener.close()
        return found

    assert asyncio.run(ask()) == [b"hello"] * 3
    assert slots.connections == 103
