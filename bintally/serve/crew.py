"""The threads that decode and count photos, and the queue in front of them."""

import asyncio
import base64
import io
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bintally.counts import Answer, CountDistribution, Unreadable
from bintally.errors import UnreadablePhotoError

_LINGER_SHARE, _LINGER_S = 0.05, 0.01
"""How long a thread waits at most for the clients it has just answered: this share of the time they took, no longer
than so many seconds."""


class CountingEngine(Protocol):
    """What the server needs of `bintally.serve.engine.Engine`. Safe to call from several threads."""

    concurrency: int

    @property
    def model_id(self) -> str:
        """Which model answers."""

    def read(self, photo: bytes) -> NDArray[np.uint8] | Unreadable:
        """The model's square (size, size, 3), or why there is none."""

    def logits(self, squares_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, num_classes)."""

    def answer(self, logits: NDArray[np.float32]) -> CountDistribution:
        """The distribution of one photo's logits."""

    def explain(self, photo: bytes) -> tuple[CountDistribution, NDArray[np.float32]]:
        """The answer and a heat map (size, size) of 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One photo's answer, and where its time went (milliseconds). `heat_png` is a greyscale PNG, base64."""

    answer: Answer
    model_id: str
    queue_ms: float
    decode_ms: float
    infer_ms: float
    heat_png: str | None = None


@dataclass(slots=True, eq=False)
class _Job:
    photo: bytes
    explain: bool
    future: "asyncio.Future[Counted]"
    gone: Callable[[], bool]
    arrived: float = field(default_factory=time.perf_counter)
    started: float = 0.0
    decoded: float = 0.0


class Crew:
    """Counts photos on a few threads; belongs to one event loop, which alone calls `submit`.

    Args:
        engine: who counts.
        threads: how many photos are worked on side by side; 0 asks the engine.
        batch: how many a thread takes at most at once: no more than its share of what is there.
        on_done: called on the event loop once for every submitted photo when no thread is at it any more.
    """

    def __init__(
        self, engine: CountingEngine, *, threads: int = 0, batch: int = 8, on_done: Callable[[int], None]
    ) -> None:
        self.engine = engine
        self._batch, self._on_done = batch, on_done
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._num_threads = threads or engine.concurrency
        self._busy: dict[int, float] = {}
        self._at_work: dict[int, int] = {}
        self._answered: dict[int, int] = {}
        self._loop = asyncio.get_running_loop()
        for number in range(self._num_threads):
            # Daemons: a thread that hangs in the runtime must not keep the process from ending.
            threading.Thread(target=self._work, args=(number,), name=f"bintally-crew-{number}", daemon=True).start()

    def submit(
        self, photo: bytes, *, explain: bool = False, gone: Callable[[], bool] = bool
    ) -> "asyncio.Future[Counted]":
        """Puts a photo into the queue.

        A waiting photo is passed over when the future is cancelled, or when `gone` says that its client went away: the
        future then ends with ConnectionAbortedError.
        """
        future: asyncio.Future[Counted] = self._loop.create_future()
        self._jobs.put(_Job(photo, explain, future, gone))
        return future

    def swap(self, engine: CountingEngine) -> None:
        """Photos that are taken up from now on are counted by `engine`; those being counted are left alone."""
        self.engine = engine

    def busy_for(self) -> float:
        """Seconds since the slowest thread took up its work; 0 when all are idle."""
        started = list(self._busy.values())
        return time.perf_counter() - min(started) if started else 0.0

    def stop(self) -> None:
        """Lets the threads end when the queue is empty."""
        for _ in range(self._num_threads):
            self._jobs.put(None)

    def _work(self, number: int) -> None:
        while (job := self._next(number)) is not None:
            began = self._busy[number] = time.perf_counter()
            jobs = [job, *self._more(number)]
            self._at_work[number] = len(jobs)
            left = [one for one in jobs if one.future.cancelled() or one.gone()]
            wanted = [one for one in jobs if one not in left]
            try:
                results = self._count(wanted) if wanted else []
            except Exception as error:  # noqa: BLE001 - whoever waits gets it; the thread lives on
                results = [error] * len(wanted)
            results += [ConnectionAbortedError()] * len(left)
            if len(wanted) > 1:  # first: in between they would be counted nowhere
                self._answered[number] = len(wanted)
            del self._busy[number], self._at_work[number]
            try:
                self._loop.call_soon_threadsafe(self._deliver, wanted + left, results)
            except RuntimeError:  # the loop has been closed: nobody waits any more
                return
            self._linger(len(wanted), time.perf_counter() - began)

    def _next(self, number: int) -> _Job | None:
        try:
            return self._jobs.get_nowait()
        except queue.Empty:
            self._answered.pop(number, None)  # nobody has come back
            return self._jobs.get()

    def _linger(self, size: int, took: float) -> None:
        """Gives clients who were answered together a moment to ask again, so that they are counted together again.

        Without it the first one to come back would be taken alone, and alone a photo costs up to half as much again.
        """
        if size < 2:
            return
        latest = time.perf_counter() + min(_LINGER_SHARE * took, _LINGER_S)
        while self._jobs.qsize() < size and time.perf_counter() < latest:
            time.sleep(0.0005)

    def _more(self, number: int) -> list[_Job]:
        # A fair share of all there is, being counted, waiting or just answered and about to ask again, so that the other
        # threads find some too. Who was answered may be waiting already: the two are not added up.
        found: list[_Job] = []
        answered = sum(list(self._answered.values()))
        self._answered.pop(number, None)
        together = max(1 + self._jobs.qsize(), answered) + sum(list(self._at_work.values()))
        share = min(self._batch, -(-together // self._num_threads))
        for _ in range(share - 1):
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # meant to end a thread: leave it for one
                break
            found.append(job)
        return found

    def _count(self, jobs: list[_Job]) -> list[Counted | BaseException]:
        engine = self.engine  # the same one for the whole batch, whatever is swapped in meanwhile
        done: dict[int, Counted | BaseException] = {}
        squares: list[NDArray[np.uint8]] = []
        places: list[int] = []
        for place, job in enumerate(jobs):
            job.started = time.perf_counter()
            if job.explain:
                done[place] = _explain(engine, job)
                continue
            square = engine.read(job.photo)
            job.decoded = time.perf_counter()
            if isinstance(square, Unreadable):
                done[place] = _counted(job, square, engine.model_id, 0.0)
            else:
                squares.append(square)
                places.append(place)
        if squares:
            before = time.perf_counter()
            logits = engine.logits(squares[0][None] if len(squares) == 1 else np.stack(squares))
            infer_ms = (time.perf_counter() - before) * 1e3
            for place, row in zip(places, logits, strict=True):
                done[place] = _counted(jobs[place], engine.answer(row), engine.model_id, infer_ms)
        return [done[place] for place in range(len(jobs))]

    def _deliver(self, jobs: list[_Job], results: list[Counted | BaseException]) -> None:
        for job, result in zip(jobs, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        self._on_done(len(jobs))


def _counted(job: _Job, answer: Answer, model_id: str, infer_ms: float, **more: Any) -> Counted:
    return Counted(
        answer=answer,
        model_id=model_id,
        queue_ms=(job.started - job.arrived) * 1e3,
        decode_ms=(job.decoded - job.started) * 1e3,
        infer_ms=infer_ms,
        **more,
    )


def _explain(engine: CountingEngine, job: _Job) -> Counted:
    job.decoded = job.started
    try:
        answer, heat = engine.explain(job.photo)
    except UnreadablePhotoError as error:
        return _counted(job, Unreadable(reason=str(error)), engine.model_id, 0.0)
    infer_ms = (time.perf_counter() - job.started) * 1e3  # decoding included: `explain` is one call
    out = io.BytesIO()
    Image.fromarray(np.rint(heat * 255).astype(np.uint8)).save(out, "PNG")
    png = base64.b64encode(out.getvalue()).decode()
    return _counted(job, answer, engine.model_id, infer_ms, heat_png=png)
