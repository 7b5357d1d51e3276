"""The whole state of a training in one safetensors file, so that it goes on as if it had never stopped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from bintally import files
from bintally.errors import RunError

_MODEL = "model/"
_OPTIMIZER = "optimizer/"
_AVERAGE = "average/"


def save_checkpoint(
    path: Path,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes model, optimizer and the loop's own state, whole or not at all.

    Args:
        path: the file.
        model: the model's state dict.
        optimizer: the optimizer's state dict.
        state: JSON values; they stand in the file's header, so that both are of the same moment.
        average: the running average of the weights, where there is one.

    Raises:
        DiskFullError: there is no room; the old checkpoint is as it was.
    """
    tensors = {f"{_MODEL}{name}": value for name, value in model.items()}
    tensors |= {f"{_AVERAGE}{name}": value for name, value in (average or {}).items()}
    scalars: dict[str, Any] = {}
    for index, values in optimizer["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{index}/{key}"] = value
            else:
                scalars[f"{index}/{key}"] = value
    head = {"state": dict(state), "scalars": scalars}
    flat = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    files.write_bytes(path, save(flat, metadata={"bintally": json.dumps(head, allow_nan=False)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        model: the model's state dict.
        optimizer: the optimizer's state by parameter, for `restore`.
        state: the loop's.
        average: the running average of the weights; empty when there was none.
    """

    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Any]]
    state: dict[str, Any]
    average: dict[str, Tensor]


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `save_checkpoint` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {})["bintally"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is no checkpoint that can be read ({error}): train again with --restart") from error

    def under(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    optimizer: dict[int, dict[str, Any]] = {}
    for name, value in (under(_OPTIMIZER) | head["scalars"]).items():
        index, _, key = name.partition("/")
        optimizer.setdefault(int(index), {})[key] = value
    return Checkpoint(model=under(_MODEL), optimizer=optimizer, state=head["state"], average=under(_AVERAGE))


def restore(optimizer: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Puts a checkpoint's optimizer state into an optimizer over the same parameters in the same order.

    Each tensor gets its parameter's order in memory, which files do not keep: fused optimizers go through both as they lie.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]

    def laid_out(value: Any, like: Tensor) -> Any:
        if not isinstance(value, Tensor) or value.shape != like.shape:
            return value
        return torch.empty_like(like, dtype=value.dtype).copy_(value)

    moved = {index: {key: laid_out(v, parameters[index]) for key, v in one.items()} for index, one in state.items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moved, "param_groups": groups})


def same_bits(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts hold the same tensors to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
