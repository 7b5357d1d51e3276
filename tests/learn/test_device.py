"""Where a network computes."""

import pytest
import torch

from bintally.errors import SettingsError
from bintally.learn.device import Threads, make_fabric, pick_device, pick_precision
from bintally.learn.recipe import TrainSettings


def test_devices_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(SettingsError, match="--device cpu"):
        pick_device("cuda")
    with pytest.raises(SettingsError, match="unknown device 'tpu'"):
        pick_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"


def test_auto_precision_asks_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainSettings(device="cpu")
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert pick_precision(settings) == ("bf16-mixed" if native else "32-true")
    assert pick_precision(TrainSettings(device="cpu", precision="bf16-mixed")) == "bf16-mixed"


def test_fabric_takes_the_settings() -> None:
    fabric = make_fabric(TrainSettings(device="cpu", precision="32-true"))
    assert (fabric.device.type, fabric.world_size) == ("cpu", 1)
    assert make_fabric(TrainSettings(device="cpu", precision="32-true", hosts=2, processes=3)).world_size == 6


def test_threads_are_set_for_a_while() -> None:
    before = torch.get_num_threads()
    with Threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with Threads(0):
        assert torch.get_num_threads() == before
