from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from bintally.card import ModelCard, write_card
from bintally.counts import CountRange
from bintally.errors import RunError
from bintally.learn import hosts
from bintally.learn.run import CHECKPOINT
from bintally.pixels import PixelSpec


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    """One process that is a group of its own: what several hosts do to each other is in tests/contract."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield Fabric(accelerator="cpu", devices=1)
    torch.distributed.destroy_process_group()


def test_bytes_are_shared_whatever_they_are(fabric: Fabric) -> None:
    for value in (b"", b"x", bytes(range(256)) * 1000):
        assert hosts.share(fabric, value) == value


def test_the_first_host_says_what_there_is(fabric: Fabric, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).parent.mkdir()
    (tmp_path / CHECKPOINT).write_bytes(b"state")
    assert hosts.begin(fabric, tmp_path, "digest", lambda: {"status": "stopped"}) == {"status": "stopped"}
    assert hosts.begin(fabric, tmp_path, "digest", lambda: None) is None
    assert (tmp_path / CHECKPOINT).read_bytes() == b"state"


def test_what_stops_the_first_host_stops_all(fabric: Fabric, tmp_path: Path) -> None:
    def look() -> None:
        raise RunError("trained with other settings")

    with pytest.raises(RunError, match="trained with other settings"):
        hosts.begin(fabric, tmp_path, "digest", look)


def test_the_card_is_the_first_hosts(fabric: Fabric, tmp_path: Path) -> None:
    card = ModelCard(architecture="tiny", pixels=PixelSpec(), counts=CountRange(), files={"not": "checked"})
    write_card(tmp_path, card)
    assert hosts.card_of(fabric, tmp_path) == card


def test_which_process_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert hosts.is_first_process()
    monkeypatch.setenv("NODE_RANK", "1")
    assert not hosts.is_first_process()
    monkeypatch.setenv("NODE_RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not hosts.is_first_process()


def test_lost_processes_are_told_from_other_faults() -> None:
    lost = hosts.broken_off(RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer [::1]:5\nmore"))
    assert lost is not None
    assert "Connection closed by peer" in str(lost)
    assert "more" not in str(lost)
    assert hosts.broken_off(torch.distributed.DistNetworkError("timed out")) is not None
    assert hosts.broken_off(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
