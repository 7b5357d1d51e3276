"""Where and how exactly a network computes: device, processes, precision, threads."""

import logging
from typing import Literal

import torch
from lightning_fabric import Fabric

from bintally.errors import SettingsError
from bintally.learn.memory import keep_freed_memory
from bintally.learn.recipe import TrainSettings


def pick_device(name: str) -> str:
    """The torch device for "auto", "cpu" or "cuda".

    Raises:
        SettingsError: there is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in {"cpu", "cuda"}:
        raise SettingsError(f"unknown device {name!r}: take auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError("there is no CUDA device here (or torch is the CPU build): take --device cpu")
    return name


class Threads:
    """Sets torch's threads while a block runs; 0 leaves them."""

    def __init__(self, num: int) -> None:
        self._num, self._before = num, 0

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        if self._num:
            torch.set_num_threads(self._num)

    def __exit__(self, *_: object) -> None:
        if self._num:
            torch.set_num_threads(self._before)


def make_fabric(settings: TrainSettings) -> Fabric:
    """Fabric for the settings' device, processes and precision. Raises SettingsError when there is no such device."""
    device = pick_device(settings.device)
    if device == "cpu":
        keep_freed_memory()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # who trains hears from us, not from it
    return Fabric(
        accelerator="cuda" if device.startswith("cuda") else "cpu",
        devices=settings.processes,
        num_nodes=settings.hosts,
        strategy="ddp" if settings.processes * settings.hosts > 1 else "auto",
        precision=pick_precision(settings),
    )


def pick_precision(settings: TrainSettings) -> Literal["32-true", "bf16-mixed"]:
    """The precision for "auto", or what was asked."""
    if settings.precision != "auto":
        return settings.precision
    if pick_device(settings.device).startswith("cuda"):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    # Older processors compute bfloat16 too, but through float32, slowly.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if native else "32-true"
