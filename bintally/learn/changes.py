"""What changed between photos of one bin: a target that hidden items and wrong records do not spoil.

Neighbouring photos often show one bin before and after something came or went. What lies hidden in both, or is wrong in both
records, is in neither difference: so differences between siblings are cleaner labels than the counts themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MOST = 5.0
"""Larger changes count as this large: it is a bin that was emptied or filled, and told apart by more than its count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Labels and groups of a training part.

    Attributes:
        labels: (num,) float32 true counts, not clipped.
        groups: (num,) int64, the same for photos of one bin.
    """

    labels: Tensor
    groups: Tensor

    @classmethod
    def of(cls, labels: NDArray[np.int64], groups: Sequence[str]) -> "Changes":
        """Of a training part, in its order."""
        return cls(labels=torch.from_numpy(labels.astype(np.float32)), groups=torch.from_numpy(numbered(groups)))

    def loss(self, told: Tensor, places: Tensor) -> Tensor:
        """The mean loss over all pairs of photos of one bin within a batch; 0 without any.

        Huber's: half the squared error of a difference up to 1, and as much as the error, less a half, beyond.

        Args:
            told: (n,) what is told of each photo, of which only differences matter.
            places: (n,) int64 the photos' places in the training part.
        """
        groups, labels = self.groups[places], self.labels[places]
        first, second = torch.triu(groups[:, None] == groups[None], diagonal=1).nonzero(as_tuple=True)
        changed = (labels[first] - labels[second]).clamp(-MOST, MOST)
        said = told.float()[first] - told.float()[second]
        return nn.functional.smooth_l1_loss(said, changed, reduction="sum") / max(1, len(first))

    def to(self, device: torch.device) -> "Changes":
        """The same on a device."""
        return replace(self, labels=self.labels.to(device), groups=self.groups.to(device))


def numbered(groups: Sequence[str]) -> NDArray[np.int64]:
    """(num,) A number for each photo's group, from 0 in the order in which groups first come."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)
