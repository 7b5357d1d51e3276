"""Statistics of many tensors at once: each is measured where it lies, and all figures are fetched in one look.

A figure that is fetched from a device waits for everything before it; so nothing is fetched until a check is written.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bintally.learn.history import TensorStats

_PERCENTILE_VALUES = 10_000


def measured(tensor: Tensor, *, spread: bool = False) -> Tensor:
    """(5,) float32 figures of a tensor, still on its device: see `stats_of`.

    Args:
        tensor: of any shape and kind of float.
        spread: whether the percentiles are wanted; of at most about 10,000 of the values, evenly taken.

    Returns:
        Largest absolute value, mean absolute value, variance, 5th and 95th percentile. All are NaN or infinite where a
        value is no finite number; the percentiles are NaN where they are not wanted.
    """
    values = _flat(tensor.detach()).float()
    if not values.numel():
        values = values.new_zeros(1)
    least, most = values.aminmax()
    largest = torch.maximum(-least, most)
    size = torch.linalg.vector_norm(values, ord=1) / values.numel()  # no tensor of absolute values in between
    low = high = values.new_tensor(math.nan)
    if spread:
        few = values[:: max(1, values.numel() // _PERCENTILE_VALUES)]
        low, high = (few.kthvalue(1 + round(share * (len(few) - 1))).values for share in (0.05, 0.95))
    return torch.stack([largest, size, values.var(correction=0), low, high])


def stats_of(figures: Mapping[str, Tensor]) -> dict[str, TensorStats]:
    """What `measured` gave, by name, as statistics."""
    return {name: _stats(*row) for name, row in fetched(figures).items()}


def change(before: Tensor, after: Tensor) -> Tensor:
    """() Mean absolute change over mean absolute value before, on the device."""
    num, old = max(1, before.numel()), before.float()
    moved = torch.linalg.vector_norm(_flat(after.detach().float() - old), ord=1) / num
    size = torch.linalg.vector_norm(_flat(old), ord=1) / num
    return torch.div(moved, size.clamp(min=1e-9))


def fetched(figures: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """The numbers of tensors of one length, by name: one look at the device for all of them."""
    if not figures:
        return {}
    rows: list[list[float]] = torch.stack([one.reshape(-1) for one in figures.values()]).tolist()
    return dict(zip(figures, rows, strict=True))


def finite(value: float) -> float | None:
    """The value, or None when it is no finite number."""
    return value if math.isfinite(value) else None


def _flat(tensor: Tensor) -> Tensor:
    """All values in some order, without a copy where they lie without gaps, channels last or first."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).reshape(-1)
    return tensor.reshape(-1)


def _stats(largest: float, size: float, variance: float, low: float, high: float) -> TensorStats:
    if not math.isfinite(largest):
        return TensorStats(finite=False)
    return TensorStats(mean_abs=finite(size), variance=finite(variance), spread=finite(high - low))
