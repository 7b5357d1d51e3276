"""Checkpoints: everything comes back to the bit, nothing is unpickled, damage is named."""

from pathlib import Path

import pytest
import torch

from bintally.errors import RunError
from bintally.learn.checkpoint import load_checkpoint, restore, same_bits, save_checkpoint

KINDS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "plain sgd": lambda p: torch.optim.SGD(p, lr=0.1),
}


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last
    )  # type: ignore[call-overload,no-any-return]


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    torch.manual_seed(seed)
    model(torch.randn(2, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_restored_goes_on_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    model = network()
    optimizer = KINDS[kind](model.parameters())
    step(model, optimizer, 1)
    state = {"epoch": 3, "nll": 0.1 + 0.2, "best": None, "history": [{"a": 1e-17}]}
    save_checkpoint(tmp_path / "deep" / "c.safetensors", model.state_dict(), optimizer.state_dict(), state)
    step(model, optimizer, 2)

    other = network()
    found = load_checkpoint(tmp_path / "deep" / "c.safetensors")
    assert found.state == state
    assert not found.average
    other.load_state_dict(found.model)
    again = KINDS[kind](other.parameters())
    restore(again, found.optimizer)
    step(other, again, 2)
    assert same_bits(model.state_dict(), other.state_dict())


def test_an_average_comes_back_beside_the_weights(tmp_path: Path) -> None:
    model = network()
    average = {name: value + 1 for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters())
    save_checkpoint(tmp_path / "c.safetensors", model.state_dict(), optimizer.state_dict(), {}, average)
    found = load_checkpoint(tmp_path / "c.safetensors")
    assert same_bits(found.model, model.state_dict())
    assert same_bits(found.average, average)


def test_same_bits_sees_one_bit() -> None:
    one = {"a": torch.tensor([1.0, 2.0])}
    assert not same_bits(one, {"a": torch.tensor([1.0, 2.0000002])})
    assert not same_bits(one, {"b": one["a"]})


@pytest.mark.parametrize("data", [b"", b"x" * 200, b"\x80\x04K\x01."])
def test_damage_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.safetensors").write_bytes(data)
    with pytest.raises(RunError, match="--restart"):
        load_checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(RunError, match="no checkpoint"):
        load_checkpoint(tmp_path / "missing.safetensors")
