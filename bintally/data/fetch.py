"""Takes photos and their records out of an object store into a folder: many at once, checked, resumable.

What a kill leaves behind is whole files, a journal (journal.py) and a few half-written ones under names that nothing
reads; the next fetch removes those and goes on. Files are renamed into place but not synced one by one: that keeps
every promise against a killed process and is many times faster; after a loss of power the sizes in the journal tell.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from bintally import files
from bintally.bins import METADATA_FOLDER, PHOTO_FOLDER, id_order, parse_record
from bintally.data import choose
from bintally.data.choose import Choice
from bintally.data.journal import Journal
from bintally.data.layout import WHAT, What, check, name_of
from bintally.data.outcome import REPORT_FILE, FetchReport, Kind, Problem
from bintally.data.store import Store
from bintally.errors import (
    AccessDeniedError,
    BintallyError,
    DiskFullError,
    ObjectNotFoundError,
    RecordError,
    StoreError,
    StoreUnreachableError,
    UnreadablePhotoError,
)
from bintally.progress import Progress, Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """How a fetch goes about it.

    Attributes:
        in_flight: how many requests are under way at once.
        checkers: threads that decode photos; 0 takes one a core.
        give_up_after: stop when so many objects in a row could not be had for reasons other than being missing.
    """

    in_flight: Annotated[int, Field(ge=1, le=4096)] = 64
    checkers: Annotated[int, Field(ge=0)] = 0
    give_up_after: Annotated[int, Field(ge=1)] = 100


def fetch(
    store: Store,
    folder: Path,
    choice: Choice | None = None,
    *,
    settings: FetchSettings | None = None,
    progress: Progress | None = None,
) -> FetchReport:
    """Takes the chosen photos with their metadata into `folder`, and writes the report there.

    Args:
        store: laid out like the public bucket: `bin-images/<id>.jpg`, `metadata/<id>.json`.
        folder: gets the same layout, and `fetch-report.json`. What it holds whole already is not asked for again.
        choice: which photos; all by default.
        settings: how many at once, and the like.
        progress: hears of every photo.

    Returns:
        what was written to the report. Missing and malformed objects are in it; they raise nothing.

    Raises:
        UsageError: the choice makes no sense.
        StoreUnreachableError, AccessDeniedError: at once, as soon as the store says so.
        ObjectNotFoundError: everything was tried and the store has nothing of it at all.
        StoreError: the store cannot be listed, fails again and again, or the folder is in use by another fetch.
        DiskFullError: there is no room; nothing half-written stays behind.
    """
    choice, settings = choice or Choice(), settings or FetchSettings()
    named = choice.named()  # before anything is touched
    folder = folder.absolute()
    with Journal(folder, store.url) as journal:
        (folder / REPORT_FILE).unlink(missing_ok=True)  # it would tell of another fetch
        for part in (folder, folder / PHOTO_FOLDER, folder / METADATA_FOLDER):
            files.remove_parts(part)
        run = _Fetch(store, folder, journal, settings, progress or Silent())
        report = asyncio.run(run.all(choice, named))
        files.write_json(folder / REPORT_FILE, report.as_json())
        journal.finish()
    if report.chosen and sum(one.kind == "missing" for one in report.problems) == len(WHAT) * report.chosen:
        raise ObjectNotFoundError(
            f"{store.url} has none of the {report.chosen:,} photos asked for: check the address and the ids"
        )
    return report


BATCH = 32
"""Photos that a checker takes at once, when so many wait: to hand one over costs as much as to look through it."""


@dataclass(slots=True, kw_only=True)
class _Fetched:
    # What came of one photo and its record, before anybody looked into it.
    id: str
    got: list[tuple[What, bytes]]
    problems: list[Problem]


@dataclass(slots=True)
class _Tally:
    fetched: int = 0
    skipped: int = 0
    num_objects: int = 0
    num_bytes: int = 0
    in_a_row: int = 0  # objects that failed, one after the other
    granted: bool = False  # whether the store ever gave an object, or said that there is none
    problems: list[Problem] = field(default_factory=list)


class _Fetch:
    def __init__(
        self, store: Store, folder: Path, journal: Journal, settings: FetchSettings, progress: Progress
    ) -> None:
        self._store = store
        self._folder = folder
        self._journal = journal
        self._settings = settings
        self._progress = progress
        self._tally = _Tally()
        # Asked of the disk once: to ask for every photo costs more than to fetch it from a near store.
        folders = [part for part in (PHOTO_FOLDER, METADATA_FOLDER) if (folder / part).is_dir()]
        self._there = {f"{part}/{entry.name}" for part in folders for entry in os.scandir(folder / part)}
        self._told, self._untold = time.monotonic(), 0

    @property
    def _num_checkers(self) -> int:
        return self._settings.checkers or os.cpu_count() or 1

    async def all(self, choice: Choice, named: tuple[list[str], dict[str, int]] | None) -> FetchReport:
        start = time.monotonic()
        pool = ThreadPoolExecutor(self._num_checkers, thread_name_prefix="check")
        try:
            chosen = await self._chosen(choice, named)
            await self._take_all(chosen, pool)
        finally:
            # Whoever is at work ends well or cleans up; nobody else begins.
            pool.shutdown(wait=True, cancel_futures=True)
        tally = self._tally
        problems = tuple(sorted(tally.problems, key=lambda one: (id_order(one.id), one.what)))
        ids: dict[Kind, set[str]] = {"missing": set(), "malformed": set(), "failed": set()}
        for one in problems:
            ids[one.kind].add(one.id)
        return FetchReport(
            source=self._store.url,
            ids=tuple(chosen),
            fetched=tally.fetched,
            skipped=tally.skipped,
            missing=len(ids["missing"]),
            malformed=len(ids["malformed"]),
            failed=len(ids["failed"]),
            num_objects=tally.num_objects,
            num_bytes=tally.num_bytes,
            seconds=round(time.monotonic() - start, 3),
            problems=problems,
        )

    async def _chosen(self, choice: Choice, named: tuple[list[str], dict[str, int]] | None) -> list[str]:
        if named is None:
            ids, counts = await self._listed(choice), dict[str, int]()
        else:
            ids, counts = named
        if choice.per_count is not None and not counts:
            counts = await self._expected(ids)
        return choose.so_many(ids, counts, per_count=choice.per_count, limit=choice.limit)

    async def _listed(self, choice: Choice) -> list[str]:
        hint = "name the photos with --list, --ids or --ids-file"
        if not self._store.can_list:
            raise StoreError(f"{self._store.url} cannot be listed, being a plain web server: {hint}")
        found: list[str] = []
        self._progress.begin("listing the store")
        try:
            async for one in self._store.list(PHOTO_FOLDER):
                path = PurePosixPath(one.name)
                if path.suffix == ".jpg" and choose.is_id(path.stem) and str(path.parent) == PHOTO_FOLDER:
                    found.append(path.stem)
                    self._tell()
                    # A listing by name is the same every time: there is no need to see all of half a million.
                    if self._store.lists_in_order and choice.per_count is None and len(found) == choice.limit:
                        break
        except AccessDeniedError as error:
            raise AccessDeniedError(f"{self._store.url} does not allow to be listed: {hint}") from error
        finally:
            self._hush()
        if not found:
            raise ObjectNotFoundError(f"{self._store.url} has no photos under {PHOTO_FOLDER}/: check the address")
        return sorted(found, key=id_order)

    async def _expected(self, ids: Sequence[str]) -> dict[str, int]:
        """Expected quantities of all ids, where there is a record: to choose so many of each."""
        known = self._journal.counts
        counts = {one: known[one] for one in ids if one in known}

        async def look(photo_id: str) -> None:
            name = name_of(photo_id, "metadata")
            if name in self._journal.sizes and (self._folder / name).is_file():
                data = (self._folder / name).read_bytes()
            else:
                got = await self._got(photo_id, "metadata")
                if isinstance(got, Problem):
                    return
                data = got
            try:
                counts[photo_id] = parse_record(data, photo_id).expected_quantity
            except RecordError:
                return  # it cannot be chosen by its count; when it is chosen otherwise the report will tell
            self._journal.count(photo_id, counts[photo_id])

        await self._each("reading records", [one for one in ids if one not in counts], look)
        return counts

    async def _each(self, task: str, ids: Sequence[str], do: Callable[[str], Awaitable[None]]) -> None:
        """Does `do` for every id, so many at once; the first error ends all."""
        left: Iterator[str] = iter(ids)

        async def worker() -> None:
            for photo_id in left:
                await do(photo_id)
                self._tell()

        self._progress.begin(task, len(ids))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._settings.in_flight, len(ids))):
                    group.create_task(worker())
        except* BintallyError as errors:
            raise _worst(errors) from None
        finally:
            self._hush()

    async def _take_all(self, ids: Sequence[str], pool: ThreadPoolExecutor) -> None:
        """Makes sure of every photo and its record: some ask the store, others look into what came and keep it."""
        waiting: asyncio.Queue[_Fetched] = asyncio.Queue(max(BATCH, self._settings.in_flight))

        async def take(photo_id: str) -> None:
            fetched = await self._take(photo_id, pool)
            if fetched:
                await waiting.put(fetched)

        async def keeper() -> None:
            while True:
                batch = [await waiting.get()]
                while len(batch) < BATCH and not waiting.empty():
                    batch.append(waiting.get_nowait())
                await self._keep(batch, pool)
                for _ in batch:
                    waiting.task_done()

        try:
            async with asyncio.TaskGroup() as group:
                keepers = [group.create_task(keeper()) for _ in range(self._num_checkers)]
                await self._each("fetching photos", ids, take)
                await waiting.join()
                for one in keepers:
                    one.cancel()
        except* BintallyError as errors:
            raise _worst(errors) from None

    async def _take(self, photo_id: str, pool: ThreadPoolExecutor) -> _Fetched | None:
        """What the store has of one photo and its record, as far as it is wanted; None when both are here."""
        loop = asyncio.get_running_loop()
        wanted = [what for what in WHAT if not self._is_whole(name_of(photo_id, what))]
        # Files of unknown origin under the right name: whole ones are as good as ours.
        strays = [what for what in wanted if name_of(photo_id, what) in self._there]
        if strays:
            good = await loop.run_in_executor(pool, self._adopt, photo_id, strays)
            wanted = [what for what in wanted if what not in good]
        if not wanted:
            self._tally.skipped += 1
            return None
        fetched = _Fetched(id=photo_id, got=[], problems=[])
        for what in wanted:
            if verdict := self._journal.verdicts.get(name_of(photo_id, what)):
                fetched.problems.append(_problem(photo_id, what, *verdict))
                continue
            answer = await self._got(photo_id, what)
            if isinstance(answer, Problem):
                fetched.problems.append(answer)
                if answer.kind == "missing":
                    self._journal.verdict(name_of(photo_id, what), answer.kind, answer.why)
            else:
                fetched.got.append((what, answer))
        return fetched

    async def _keep(self, batch: list[_Fetched], pool: ThreadPoolExecutor) -> None:
        """Looks into what came, writes what is whole and says what is not.

        Only the looking is a thread's: an unsynced write to a local disk takes less time than the threads' turns at
        Python's lock.
        """
        found = await asyncio.get_running_loop().run_in_executor(pool, _wrong_of, batch)
        kept: list[tuple[str, int]] = []
        try:
            for one, wrong in zip(batch, found, strict=True):
                problems = one.problems + self._written(one, wrong, kept)
                self._tally.problems += problems
                self._tally.fetched += not problems
        finally:
            if kept:  # one line for each, in one go
                self._journal.whole(*kept)
            self._tally.num_objects += len(kept)
            self._tally.num_bytes += sum(size for _, size in kept)

    async def _got(self, photo_id: str, what: What) -> bytes | Problem:
        """The bytes, or why they cannot be had; raises what makes it pointless to go on."""
        tally = self._tally
        try:
            data = await self._store.get(name_of(photo_id, what))
        except ObjectNotFoundError:
            tally.granted, tally.in_a_row = True, 0
            return Problem(id=photo_id, what=what, kind="missing", why="not in the store")
        except StoreUnreachableError:
            raise
        except StoreError as error:
            tally.in_a_row += 1
            if isinstance(error, AccessDeniedError) and not tally.granted:
                raise
            if tally.in_a_row >= self._settings.give_up_after:
                raise type(error)(f"{tally.in_a_row} failures in a row, the last: {error}") from error
            return Problem(id=photo_id, what=what, kind="failed", why=str(error))
        tally.granted, tally.in_a_row = True, 0
        return data

    def _is_whole(self, name: str) -> bool:
        if name not in self._there or name not in self._journal.sizes:
            return False
        return (self._folder / name).stat().st_size == self._journal.sizes[name]

    def _adopt(self, photo_id: str, strays: list[What]) -> list[What]:
        """In a thread: which of these files are whole. They are noted as ours."""
        found = [(what, (self._folder / name_of(photo_id, what)).read_bytes()) for what in strays]
        wrong = _wrong(photo_id, found)
        good = [(what, len(data)) for what, data in found if what not in wrong]
        self._journal.whole(*((name_of(photo_id, what), size) for what, size in good))
        return [what for what, _ in good]

    def _written(self, one: _Fetched, wrong: dict[What, str], kept: list[tuple[str, int]]) -> list[Problem]:
        """Writes what is whole of one photo, adding name and size to `kept`, and says what is not."""
        problems: list[Problem] = []
        for what, data in one.got:
            name = name_of(one.id, what)
            if what in wrong:
                problems.append(Problem(id=one.id, what=what, kind="malformed", why=wrong[what]))
                self._journal.verdict(name, "malformed", wrong[what])
                continue
            try:
                files.write_bytes(self._folder / name, data, durable=False)
            except OSError as error:
                raise StoreError(f"cannot write {self._folder / name}: {error.strerror}") from error
            kept.append((name, len(data)))
        return problems

    def _tell(self) -> None:
        # A bar is drawn at most ten times a second; to tell it of each of two thousand would cost as much as fetching.
        self._untold += 1
        now = time.monotonic()
        if now - self._told > 0.1:
            self._progress.advance(self._untold)
            self._told, self._untold = now, 0

    def _hush(self) -> None:
        if self._untold:
            self._progress.advance(self._untold)
            self._untold = 0
        self._progress.end()


def _wrong(photo_id: str, got: list[tuple[What, bytes]]) -> dict[What, str]:
    """In a thread: what is wrong with these bytes, for those with which something is."""
    wrong: dict[What, str] = {}
    for what, data in got:
        try:
            check(photo_id, what, data)
        except (UnreadablePhotoError, RecordError) as error:
            wrong[what] = str(error)
    return wrong


def _wrong_of(batch: list[_Fetched]) -> list[dict[What, str]]:
    return [_wrong(one.id, one.got) for one in batch]


def _problem(photo_id: str, what: What, kind: str, why: str) -> Problem:
    return Problem(id=photo_id, what=what, kind="missing" if kind == "missing" else "malformed", why=why)


def _worst(errors: BaseExceptionGroup[BintallyError]) -> BintallyError:
    """Of the errors that came at once, the one to tell: a full disk before all others."""
    flat: list[BintallyError] = []
    for one in errors.exceptions:
        flat += [_worst(one)] if isinstance(one, BaseExceptionGroup) else [one]
    return min(flat, key=lambda one: not isinstance(one, DiskFullError))
