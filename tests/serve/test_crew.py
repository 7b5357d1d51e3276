"""The threads behind the server."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from bintally.counts import CountDistribution, Unreadable
from bintally.serve.crew import Counted, Crew
from tests.serve.stand_in import StandIn, count_of, photo


def count_all(engine: StandIn, photos: list[bytes], **more: Any) -> tuple[list[Counted | BaseException], int]:
    done: list[int] = []

    async def run() -> list[Counted | BaseException]:
        crew = Crew(engine, on_done=done.append, **more)
        found = await asyncio.gather(*(crew.submit(one) for one in photos), return_exceptions=True)
        crew.stop()
        return found

    return asyncio.run(run()), sum(done)


def test_every_photo_gets_its_own_answer_in_batches_too() -> None:
    greys = [(place * 37) % 256 for place in range(60)]
    found, places = count_all(StandIn("one", 0.2), [photo(grey) for grey in greys], batch=4)
    assert places == 60
    for grey, one in zip(greys, found, strict=True):
        assert isinstance(one, Counted)
        assert isinstance(one.answer, CountDistribution)
        assert one.answer.count == count_of(grey)


def test_clients_answered_together_are_counted_together_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bintally.serve.crew._LINGER_SHARE", 100.0)  # however busy the machine
    monkeypatch.setattr("bintally.serve.crew._LINGER_S", 5.0)
    sizes: list[int] = []

    class Noted(StandIn):
        def logits(self, squares: Any) -> Any:
            sizes.append(len(squares))
            return super().logits(squares)

    async def run() -> None:
        crew = Crew(Noted("one", 5), threads=2, on_done=lambda _: None)

        async def client() -> None:
            for _ in range(30):
                await crew.submit(photo())

        await asyncio.gather(*(client() for _ in range(8)))
        crew.stop()

    asyncio.run(run())
    assert sum(sizes) == 240
    assert max(sizes) <= 4  # half of what there is: the other thread has its share
    assert sizes.count(4) >= 45  # of 60 at best: the first ones start before all have come


def test_who_was_answered_and_stays_away_is_not_counted_on() -> None:
    sizes: list[int] = []

    class Noted(StandIn):
        def logits(self, squares: Any) -> Any:
            sizes.append(len(squares))
            return super().logits(squares)

    async def run() -> None:
        crew = Crew(Noted("one", 20), threads=2, on_done=lambda _: None)
        await asyncio.gather(*(crew.submit(photo()) for _ in range(16)))
        await asyncio.sleep(0.3)  # nobody comes back
        sizes.clear()
        await asyncio.gather(*(crew.submit(photo()) for _ in range(4)))
        crew.stop()

    asyncio.run(run())
    assert sum(sizes) == 4
    assert max(sizes) <= 2  # half of what there is, whoever was here before


def test_an_unreadable_photo_spoils_no_batch() -> None:
    found, _ = count_all(StandIn("one", 5), [photo(), b"junk", photo(), b"", photo()], threads=1)
    kinds = [isinstance(one, Counted) and isinstance(one.answer, Unreadable) for one in found]
    assert kinds == [False, True, False, True, False]


def test_a_failing_engine_fails_its_photos_and_the_next_ones_are_counted() -> None:
    class Fails(StandIn):
        calls = 0

        def logits(self, squares: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("broken")
            return super().logits(squares)

    found, places = count_all(Fails("one", 1), [photo()] * 10, threads=1, batch=1)
    assert places == 10
    assert [type(one) for one in found] == [RuntimeError, *[Counted] * 9]


def test_photos_that_nobody_waits_for_are_passed_over() -> None:
    class Held(StandIn):
        def __init__(self) -> None:
            super().__init__("held", 0)
            self.go, self.seen = threading.Event(), 0

        def logits(self, squares: Any) -> Any:
            self.go.wait(10)
            self.seen += len(squares)
            return super().logits(squares)

    engine = Held()
    done: list[int] = []

    async def run() -> None:
        crew = Crew(engine, threads=1, batch=1, on_done=done.append)
        first = crew.submit(photo())
        given_up = crew.submit(photo())
        went_away = crew.submit(photo(), gone=lambda: True)
        await asyncio.sleep(0.05)
        assert crew.busy_for() > 0
        given_up.cancel()
        engine.go.set()
        await first
        while sum(done) < 3:
            await asyncio.sleep(0.01)
        with pytest.raises(ConnectionAbortedError):
            await went_away
        assert crew.busy_for() == 0
        crew.stop()

    asyncio.run(run())
    assert engine.seen == 1


def test_a_swap_concerns_what_is_taken_up_later() -> None:
    async def run() -> None:
        crew = Crew(StandIn("old", 60), threads=1, batch=1, on_done=lambda _: None)
        first = crew.submit(photo())
        await asyncio.sleep(0.02)
        crew.swap(StandIn("new", 0))
        second = crew.submit(photo())
        assert ((await first).model_id, (await second).model_id) == ("old", "new")
        crew.stop()

    asyncio.run(run())


def test_a_heat_map_comes_as_a_picture() -> None:
    import base64
    import io

    from PIL import Image

    async def run() -> Counted:
        crew = Crew(StandIn("one", 0), threads=1, on_done=lambda _: None)
        found = await crew.submit(photo(), explain=True)
        crew.stop()
        return found

    found = asyncio.run(run())
    assert found.heat_png is not None
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(found.heat_png))))
    assert (image.shape, image[0, 0], image[-1, -1]) == ((8, 8), 0, 255)


@pytest.mark.parametrize("threads", [0, 3])
def test_threads_are_the_engines_unless_told(threads: int) -> None:
    async def run() -> int:
        before = set(threading.enumerate())
        crew = Crew(StandIn("one", 0), threads=threads, on_done=lambda _: None)
        number = len(set(threading.enumerate()) - before)
        crew.stop()
        return number

    assert asyncio.run(run()) == (threads or 2)
