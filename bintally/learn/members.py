"""Backbones side by side: an ensemble that is one network to everything else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

KIND = "bintally-members"
"""`model_type` in the configuration file of such a backbone, where others have their architecture's."""


@dataclass(frozen=True, slots=True)
class MembersConfig:
    """The members' configurations, with what is asked of any backbone's."""

    members: tuple[Any, ...]

    @property
    def hidden_sizes(self) -> list[int]:
        """Channels of the feature map: those of all members."""
        return [sum(int(one.hidden_sizes[-1]) for one in self.members)]

    def to_dict(self) -> dict[str, Any]:
        """For the configuration file."""
        return {"model_type": KIND, "members": [one.to_dict() for one in self.members]}


class Members(nn.Module):
    """Several backbones over the same photo, whose last feature maps lie behind one another in the channels.

    Attributes:
        members: transformers vision models made of a stem and stages.
        config: see `MembersConfig`.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = MembersConfig(tuple(one.config for one in members))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Feature maps (N, channels of all members, h, w); their maps are of one size, as their inputs are."""
        return torch.cat([_features(one, x_NCHW) for one in self.members], dim=1)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.members)


def stages_of(backbone: nn.Module) -> list[nn.Module]:
    """Stem and stages in order, or nothing when the backbone is not made of stages. Members are one stage."""
    if isinstance(backbone, Members):
        return [backbone]
    stem = getattr(backbone, "embedder", None) or getattr(backbone, "embeddings", None)
    stages = getattr(getattr(backbone, "encoder", None), "stages", None)
    return [stem, *stages] if isinstance(stem, nn.Module) and isinstance(stages, nn.ModuleList) else []


def _features(backbone: nn.Module, x: Tensor) -> Tensor:
    for part in stages_of(backbone):
        x = part(x)
    return x
