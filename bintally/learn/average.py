"""A running average of the weights beside the training: what is validated and kept, and what is put away to go on."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from bintally.learn.model import CountModel


class Average:
    """An exponential moving average of everything trained, batch norm's statistics with it.

    After Polyak & Juditsky 1992, as in Tan & Le 2019 (https://arxiv.org/abs/1905.11946). It changes nothing in the
    training itself.

    Attributes:
        state: the average, under the names of `CountModel.trained_state`.

    Args:
        model: where it is to stay: on its device, in its memory order.
        decay: share of the average that a step leaves.
    """

    def __init__(self, model: CountModel, decay: float) -> None:
        self._model, self._decay = model, decay
        # Optimizers and `load_state_dict` write into the very tensors: gathering them again takes as long as a step.
        self._live = {name: value.detach() for name, value in model.trained_state().items()}
        self.state = {name: value.clone() for name, value in self._live.items()}
        self._raw: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step (from 1)."""
        # With the full share from the first step on, a short training would end with an average of its beginning.
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, value in self._live.items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)  # a count of batches

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes an average that was put away.

        Raises:
            RuntimeError: it is of another network.
        """
        if state.keys() != self.state.keys():
            raise RuntimeError("the averaged weights are those of another network")
        for name, value in state.items():
            self.state[name].copy_(value)

    @property
    def trained(self) -> Mapping[str, Tensor]:
        """The weights of the training itself, also while the model holds the average."""
        return self._live if self._raw is None else self._raw

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the average within the block, and the very weights it had before afterwards."""
        self._raw = {name: value.clone() for name, value in self._live.items()}
        try:
            self._model.load_trained_state(self.state)
            yield
        finally:
            self._model.load_trained_state(self._raw)
            self._raw = None
