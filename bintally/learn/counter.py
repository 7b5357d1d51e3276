"""A trained run as a counter: photos in, distributions over counts out."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bintally import pixels
from bintally.card import ModelCard
from bintally.counts import Answer, Unreadable, distribution_of
from bintally.errors import SettingsError, UnreadablePhotoError
from bintally.learn.device import pick_device
from bintally.learn.memory import keep_freed_memory
from bintally.learn.model import CountModel, load_run_model

Square = NDArray[np.uint8]


class TrainedCounter:
    """A `bintally.counts.Counter` over a run's best weights, in float32.

    Attributes:
        card: the run's card, whose pixels, range and temperature the answers follow.
    """

    def __init__(self, model: CountModel, card: ModelCard, *, batch_size: int = 32, device: str = "auto") -> None:
        if batch_size < 1:
            raise SettingsError(f"a batch holds at least one photo, not {batch_size}")
        self.card = card
        self._device = torch.device(pick_device(device))
        if self._device.type == "cpu":
            keep_freed_memory()
        self._model = model.to(self._device).eval()
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's types
        self._batch_size = batch_size

    @classmethod
    def load(cls, run: Path, *, batch_size: int = 32, device: str = "auto") -> "TrainedCounter":
        """Loads a run folder.

        Args:
            run: what `bintally train` wrote.
            batch_size: how many photos go through the network at once; the answers do not depend on it.
            device: "auto" (a GPU where there is one), "cpu" or "cuda".

        Raises:
            ModelError: the folder holds no trained model, or its files differ from its card.
            SettingsError: there is no such device.
        """
        model, card = load_run_model(run)
        return cls(model, card, batch_size=batch_size, device=device)

    @property
    def model_id(self) -> str:
        """The first digits of the weights' hash."""
        return self.card.model_id

    def logits(self, photos: Sequence[bytes]) -> list[NDArray[np.float32] | Unreadable]:
        """One answer a photo, in order: logits of shape (num_classes,), before any temperature, or why not."""
        answers: list[NDArray[np.float32] | Unreadable] = []
        for batch in self._decoded(photos):
            squares = [one for one in batch if not isinstance(one, Unreadable)]
            found = iter(self._forward(np.stack(squares)) if squares else ())
            answers += [one if isinstance(one, Unreadable) else next(found) for one in batch]
        return answers

    def count(self, photos: Sequence[bytes]) -> list[Answer]:
        """One answer a photo, in order; probabilities follow the card's temperature once one was fitted."""
        temperature = self.card.calibration.temperature if self.card.calibration else 1.0
        return [
            one
            if isinstance(one, Unreadable)
            else distribution_of(one.tolist(), self.card.counts, temperature, self.card.open_mean)
            for one in self.logits(photos)
        ]

    @torch.inference_mode()
    def maps(self, squares_NHWC: Square) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (n, num_classes) before any temperature, and class activation maps (n, num_classes, h, w).

        Args:
            squares_NHWC: uint8 photos (n, size, size, 3), as `pixels.read_square` gives them.
        """
        x_NCHW = torch.from_numpy(pixels.normalise(squares_NHWC, self.card.pixels)).to(self._device)
        logits, maps = self._model.forward_maps(x_NCHW.contiguous(memory_format=torch.channels_last))
        return logits.cpu().numpy(), maps.cpu().numpy()

    def _decoded(self, photos: Sequence[bytes]) -> Iterator[list[Square | Unreadable]]:
        # Pillow decodes outside Python's lock: threads read the next batch while the network has this one.
        size = self._batch_size
        batches = [photos[start : start + size] for start in range(0, len(photos), size)]
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
            ahead = [pool.submit(self._square, photo) for photo in batches[0]] if batches else []
            for following in [*batches[1:], ()]:
                now, ahead = ahead, [pool.submit(self._square, photo) for photo in following]
                yield [future.result() for future in now]

    def _square(self, photo: bytes) -> Square | Unreadable:
        try:
            return pixels.read_square(photo, self.card.pixels)
        except UnreadablePhotoError as error:
            return Unreadable(reason=str(error))

    @torch.inference_mode()
    def _forward(self, squares_NHWC: Square) -> NDArray[np.float32]:
        x_NCHW = torch.from_numpy(pixels.normalise(squares_NHWC, self.card.pixels)).to(self._device)
        logits: NDArray[np.float32] = self._model(x_NCHW.contiguous(memory_format=torch.channels_last)).cpu().numpy()
        return logits
