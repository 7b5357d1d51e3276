"""Auxiliary targets: what a network learns beside the count, and what it learns it for, forgotten once it has trained.

The record names every product with its size, and photos of one bin differ by what came or went. A network that had to tell
books from shirts, full bins from empty ones, and what changed, knows more of what it looks at: multi-task learning (Caruana
1997, https://doi.org/10.1023/A:1007379606734) with privileged information (Vapnik & Vashist 2009,
https://doi.org/10.1016/j.neunet.2009.06.042): a second head learns it, and is not in the model that comes out.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from bintally.learn.changes import Changes
from bintally.learn.material import TrainingData
from bintally.learn.onrecord import RecordTargets, record_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliarySettings:
    """What training photos teach beside the count.

    Attributes:
        record: share of the record's losses in what is made small, beside the count's own; 0 leaves the record alone. Who
            knows the averages alone has a loss of 1 for words, and of 1 for measures.
        words: how many of the words that the names in most training bins hold are to be told from the photo.
        measures: whether products, litres (in all, and a unit), pounds and the most units of one product are.
        changes: share of the loss on differences between photos of one bin (`bintally.learn.changes`); 0 leaves them
            alone. With it, photos of one bin come in the same batch. Photos that are mixed (`augment.mixup`) have none.
    """

    record: Annotated[float, Field(ge=0)] = 0.0
    words: Annotated[int, Field(ge=0, le=4096)] = 128
    measures: bool = True
    changes: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Auxiliary:
    """The auxiliary targets of a training part.

    Attributes:
        settings: what is asked.
        record: targets from the records, where there are any.
        changes: differences between photos of one bin, where they are asked.
    """

    settings: AuxiliarySettings
    record: RecordTargets | None
    changes: Changes | None

    @classmethod
    def of(cls, data: TrainingData, settings: AuxiliarySettings) -> "Auxiliary | None":
        """Those of a training part, or None when nothing is asked or known."""
        record = None
        if settings.record:
            record = record_targets(data.train_records, settings.words, measures=settings.measures)
        changes = Changes.of(data.train_labels, data.train_groups) if settings.changes else None
        return None if record is None and changes is None else cls(settings=settings, record=record, changes=changes)

    @property
    def start(self) -> Tensor:
        """(targets,) What the head says at first: the averages."""
        parts = [] if self.record is None else [self.record.start]
        return torch.cat([*parts, *([] if self.changes is None else [torch.zeros(1)])])

    def loss(self, told: Tensor, places: Tensor, *, mixed: bool) -> Tensor:
        """What is added to the count's own loss for a batch.

        Args:
            told: (n, targets) what the head says.
            places: (n,) int64 the photos' places in the training part.
            mixed: whether other photos are mixed into these.
        """
        loss = told.new_zeros((), dtype=torch.float32)
        if self.record is not None:
            loss = loss + self.settings.record * self.record.losses(told[:, : self.record.num], places).mean()
        if self.changes is not None and not mixed:
            loss = loss + self.settings.changes * self.changes.loss(told[:, -1], places)
        return loss

    def to(self, device: torch.device) -> "Auxiliary":
        """The same on a device."""
        return replace(
            self,
            record=None if self.record is None else self.record.to(device),
            changes=None if self.changes is None else self.changes.to(device),
        )
