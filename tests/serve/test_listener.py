"""Workers that accept from one socket share clients who come at once, and whoever is left alone takes all."""

import asyncio
import socket
from pathlib import Path

from bintally.serve.listener import Connection, FairListener
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


def test_workers_that_share_end_in_good_order(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as server:
        server.wait_for("ready", 2)
        assert server.stop() == 0
    assert "Traceback" not in server.log.read_text()
    assert not [line for line in server.lines() if line["level"] == "error"]
    assert len(server.events("stopped")) == 2


class Greeter(Connection):
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
            await asyncio.wait_for(listener.wait_closed(), 10)
        return found

    assert asyncio.run(ask()) == [b"hello"] * 3
    assert slots.connections == 103


class Silent(Connection):
    told = 0

    def shutdown(self) -> None:
        Silent.told += 1


def test_a_connection_that_opens_while_the_listener_closes_is_told_to_end() -> None:
    """uvicorn tells the connections that it knows of when a stop comes; one that opens right then is not among them."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))

            def make() -> Connection:  # called in the middle of opening
                listener.close()
                return Silent()

            listener = FairListener(sock, make, Slots(4, workers=2), backlog=16)
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, sock.getsockname())
                while not Silent.told:
                    await asyncio.sleep(0.001)
            await listener.wait_closed()

    asyncio.run(asyncio.wait_for(ask(), 10))
    assert Silent.told == 1
