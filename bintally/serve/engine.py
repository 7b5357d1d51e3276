"""The exported model as a counter: OpenVINO on every core, and no torch in the process."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import openvino
import openvino.properties as props
import openvino.properties.hint as hints
from numpy.typing import NDArray
from openvino.preprocess import PrePostProcessor
from PIL import Image
from pydantic import Field

from bintally import pixels
from bintally.card import ModelCard, read_card
from bintally.cores import num_cores
from bintally.counts import Answer, CountDistribution, Unreadable, distribution_of
from bintally.errors import ModelError, UnreadablePhotoError
from bintally.pixels import PixelSpec

XML, BIN = "openvino.xml", "openvino.bin"

PRECISIONS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16, "int8": openvino.Type.f32}
"""The card's precision → what the runtime computes in. Left to itself OpenVINO takes bfloat16 wherever the processor
has it. An int8 model says layer by layer what is int8; the rest stays float32, so that answers do not depend on the
processor. Where a processor lacks bfloat16, OpenVINO computes in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How the cores are shared out.

    Attributes:
        threads: cores that the network may use in all; 0 takes every core this process may run on.
        streams: how many photos (or small batches) are computed side by side, the threads divided among them; 0 gives
            every thread its own, which does most work a second when many clients ask at once.
        batch: at most so many photos go through a stream at once.
        lone: whether a photo that comes while nothing else is computed gets all threads (a second compiled network,
            about its weights' size in memory); nearly as many times quicker as there are cores, up to a few.
        max_pixels: photos that claim more are refused before they are decoded.
    """

    threads: Annotated[int, Field(ge=0)] = 0
    streams: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 8
    lone: bool = True
    max_pixels: Annotated[int, Field(ge=1)] = pixels.MAX_PIXELS


class Engine:
    """A `bintally.counts.Counter` over a model folder written by `bintally export`.

    Safe to call from several threads at once: never more than `settings.threads` compute, the others wait.

    Attributes:
        card: the model's card, whose pixels, range and temperature the answers follow.
        concurrency: so many calls at once keep all cores busy; more of them wait.
    """

    def __init__(self, model: Any, card: ModelCard, settings: EngineSettings) -> None:
        self.card = card
        self._settings = settings
        threads = settings.threads or num_cores()
        self.concurrency = min(settings.streams or threads, threads)
        precision = PRECISIONS[card.precision]
        self._shared = _Network(model, self.concurrency, threads, precision)
        wide = settings.lone and self.concurrency > 1
        self._alone = _Network(model, 1, threads, precision) if wide else None
        self._turns = _Turns()
        self._pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="bintally-engine")
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="bintally-decode")

    @classmethod
    def load(cls, folder: Path, *, settings: EngineSettings | None = None) -> "Engine":
        """Loads a model folder, holds it against its card, and lets it answer once.

        Nothing is written anywhere; the folder may be read-only, and may go away afterwards.

        Raises:
            ModelError: the folder holds no exported model, its files differ from its card, or the network in it has
                other inputs and outputs than the card says.
        """
        card = read_card(folder)
        if card.kind != "exported":
            raise ModelError(f"{folder} holds a {card.kind} model: export it first by `bintally export {folder}`")
        if card.precision not in PRECISIONS:
            raise ModelError(f"{folder}: unknown precision {card.precision!r} on its card: export the model again")
        for name in (XML, BIN):
            if name not in card.files:
                raise ModelError(f"{folder}: its card names no {name}: export the model again")
        core = openvino.Core()
        try:
            # Not mapped into memory: whoever replaces the files under a running server must not pull them away.
            core.set_property({props.enable_mmap(): False})
            model = core.read_model(folder / XML)
            _check(model, card, folder)
            engine = cls(_from_bytes(model, card.pixels), card, settings or EngineSettings())
            engine._warm_up()
        except RuntimeError as error:  # the one error that OpenVINO raises
            raise ModelError(f"{folder} cannot be loaded by OpenVINO: {_line(error)}") from error
        return engine

    @property
    def model_id(self) -> str:
        """The first digits of the weights' hash."""
        return self.card.model_id

    def logits(self, squares_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits before any temperature.

        Args:
            squares_NHWC: uint8 photos (n, size, size, 3), as `pixels.read_square` gives them.

        Returns:
            float32 (n, num_classes).

        Raises:
            ValueError: the array has another shape or type.
        """
        return self._run(squares_NHWC)[0]

    def maps(self, squares_NHWC: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits as `logits` gives them, and class activation maps (n, num_classes, h, w)."""
        return self._run(squares_NHWC)

    def count(self, photos: Sequence[bytes]) -> list[Answer]:
        """One answer a photo, in order; a photo that cannot be read is an `Unreadable` among them."""
        answers: list[Answer] = []
        # As many at a time as keep every stream busy, so that memory does not grow with the number of photos.
        size = self.concurrency * self._settings.batch
        batches = [photos[start : start + size] for start in range(0, len(photos), size)]
        following = [self._decode(batch) for batch in batches[:1]]
        for place in range(len(batches)):
            now = following.pop()
            if place + 1 < len(batches):
                following.append(self._decode(batches[place + 1]))
            answers += self._answers([one() for one in now])
        return answers

    def explain(self, photo: bytes) -> tuple[CountDistribution, NDArray[np.float32]]:
        """The answer to one photo, and where in it the evidence for the likeliest count lies.

        The class activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150) less the mean map of all counts,
        for softmax does not see what all counts share; what speaks against the count is 0.

        Returns:
            The distribution, and a heat map, float32 of 0..1 over the photo; all zeros when nothing speaks for the
            count. It has the size of the photo in the model's square input: without what pads it, (size, size) where
            it is squashed.

        Raises:
            UnreadablePhotoError: the photo cannot be read.
        """
        spec = self.card.pixels
        with self._turns.beside():
            whole = pixels.decode(photo, at_least=spec.size, max_pixels=self._settings.max_pixels)
        logits, maps = self._run(pixels.to_input(whole, spec)[None])
        answer = self._distribution(logits[0])
        heat = maps[0, answer.count - self.card.counts.lowest] - maps[0].mean(axis=0)
        side = spec.size
        image = Image.fromarray(np.maximum(heat, 0.0)).resize((side, side), Image.Resampling.BICUBIC)
        left, top, right, bottom = pixels.photo_box(whole.shape[1], whole.shape[0], spec)
        heat = np.asarray(image, dtype=np.float32)[top:bottom, left:right]
        smooth: NDArray[np.float32] = np.maximum(heat, 0.0)
        if smooth.max() > 0:
            smooth /= smooth.max()
        return answer, smooth

    def read(self, photo: bytes) -> NDArray[np.uint8] | Unreadable:
        """The model's square (size, size, 3) of a photo's bytes, or why there is none. Needs no turn of the network."""
        try:
            return self._square(photo)
        except UnreadablePhotoError as error:
            return Unreadable(reason=str(error))

    def answer(self, logits: NDArray[np.float32]) -> CountDistribution:
        """The calibrated distribution of one photo's logits (num_classes,)."""
        return self._distribution(logits)

    def _square(self, photo: bytes) -> NDArray[np.uint8]:
        with self._turns.beside():
            return pixels.read_square(photo, self.card.pixels, max_pixels=self._settings.max_pixels)

    def _decode(self, photos: Sequence[bytes]) -> list[Callable[[], NDArray[np.uint8] | Unreadable]]:
        return [self._decoders.submit(self.read, photo).result for photo in photos]

    def _answers(self, squares: list[NDArray[np.uint8] | Unreadable]) -> list[Answer]:
        readable = [one for one in squares if not isinstance(one, Unreadable)]
        logits = iter(self.logits(np.stack(readable)) if readable else ())
        return [one if isinstance(one, Unreadable) else self._distribution(next(logits)) for one in squares]

    def _distribution(self, logits: NDArray[np.float32]) -> CountDistribution:
        temperature = self.card.calibration.temperature if self.card.calibration else 1.0
        return distribution_of(logits.tolist(), self.card.counts, temperature, self.card.open_mean)

    def _run(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        side = self.card.pixels.size
        if squares.dtype != np.uint8 or squares.shape[1:] != (side, side, 3):
            raise ValueError(f"photos are uint8 (n, {side}, {side}, 3), not {squares.dtype} {squares.shape}")
        if not len(squares):
            return np.empty((0, self.card.counts.num_classes), np.float32), np.empty((0, 0, 0, 0), np.float32)
        with self._turns.turn(lone=self._alone is not None and len(squares) == 1) as alone:
            if alone and self._alone is not None:
                return self._alone.infer(squares)
            # Evenly over the streams: 10 photos on 2 streams are 5 and 5, not 8 and 2.
            num_chunks = -(-len(squares) // self._settings.batch)
            num_chunks = min(len(squares), -(-num_chunks // self.concurrency) * self.concurrency)
            chunks = np.array_split(squares, num_chunks)
            parts = (
                [self._shared.infer(chunks[0])] if num_chunks == 1 else [*self._pool.map(self._shared.infer, chunks)]
            )
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _warm_up(self) -> None:
        side = self.card.pixels.size
        blank = np.zeros((1, side, side, 3), dtype=np.uint8)
        for network in (self._shared, self._alone):
            if network is not None and not np.isfinite(network.infer(blank)[0]).all():
                raise ModelError("the model does not answer with finite numbers: export it again")


class _Network:
    """A compiled model and its requests, each of which one caller has at a time."""

    def __init__(self, model: Any, streams: int, threads: int, precision: Any) -> None:
        settings = {
            props.num_streams(): streams,
            props.inference_num_threads(): threads,
            hints.inference_precision(): precision,
            hints.enable_cpu_pinning(): False,  # several processes, or a decoder beside, would meet on one core
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(streams):
            self._free.put(compiled.create_infer_request())

    def infer(self, squares: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and maps; waits for a free request."""
        request = self._free.get()
        try:
            request.infer({0: np.ascontiguousarray(squares)}, share_inputs=True)
            return request.get_tensor("logits").data.copy(), request.get_tensor("maps").data.copy()
        finally:
            self._free.put(request)


class _Turns:
    """Lets one photo have all cores when it comes alone, and everybody share them otherwise; never both.

    Who decodes beside has a core too: then nobody is alone.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._sharing = 0
        self._beside = 0
        self._alone = False

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Work that needs no turn, but a core."""
        with self._change:
            self._beside += 1
        try:
            yield
        finally:
            with self._change:
                self._beside -= 1

    @contextlib.contextmanager
    def turn(self, *, lone: bool) -> Iterator[bool]:
        """Waits for a turn; gives whether all cores belong to the caller."""
        with self._change:
            alone = lone and not self._sharing and not self._beside and not self._alone
            while self._alone:
                self._change.wait()
            if alone:
                self._alone = True
            else:
                self._sharing += 1
        try:
            yield alone
        finally:
            with self._change:
                if alone:
                    self._alone = False
                    self._change.notify_all()
                else:
                    self._sharing -= 1


def _check(model: Any, card: ModelCard, folder: Path) -> None:
    side, classes = card.pixels.size, card.counts.num_classes
    inputs = {one.any_name: str(one.partial_shape) for one in model.inputs if one.names}
    outputs = {one.any_name: one.partial_shape for one in model.outputs if one.names}
    if inputs != {"photos": f"[?,3,{side},{side}]"}:
        raise ModelError(f"{folder}: the network takes {inputs}, the card says photos of 3×{side}×{side}")
    logits, maps = outputs.get("logits"), outputs.get("maps")
    if logits is None or maps is None or str(logits) != f"[?,{classes}]" or str(maps[1]) != str(classes):
        told = {name: str(shape) for name, shape in outputs.items()}
        raise ModelError(f"{folder}: the network gives {told}, the card says logits and maps of {classes} classes")


def _from_bytes(model: Any, spec: PixelSpec) -> Any:
    """Puts `pixels.normalise` into the network: it then takes uint8 (n, size, size, 3)."""
    steps = PrePostProcessor(model)
    photos = steps.input("photos")
    photos.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    photos.model().set_layout(openvino.Layout("NCHW"))
    mean, std = ([255.0 * value for value in values] for values in (spec.mean, spec.std))
    photos.preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(std)
    return steps.build()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
