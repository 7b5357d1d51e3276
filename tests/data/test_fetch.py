import contextlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from bintally.data.choose import Choice
from bintally.data.fetch import FetchSettings, fetch
from bintally.data.journal import NAME
from bintally.data.outcome import REPORT_FILE
from bintally.data.store import Store, StoreSettings, open_store
from bintally.errors import (
    AccessDeniedError,
    DiskFullError,
    ObjectNotFoundError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)
from tests.small_disk import small_disk

QUICK = StoreSettings(backoff_s=0.01, timeout_s=30.0, connect_timeout_s=10.0)
COUNTING = threading.Lock()


def jpeg(seed: int, side: int = 48) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 20 + seed % 60).convert("RGB").save(out, "JPEG", quality=70)
    return out.getvalue()


def record(count: int) -> bytes:
    item = {"asin": "B0", "name": "thing", "quantity": count}
    return json.dumps({"BIN_FCSKU_DATA": {"B0": item} if count else {}, "EXPECTED_QUANTITY": count}).encode()


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    """Forty photos with records; counts go 0, 1, 2, 3, 0, 1 …"""
    ids = [f"{n:05d}" for n in range(1, 39)] + ["1", "10"]
    photos = {f"bin-images/{one}.jpg": jpeg(place) for place, one in enumerate(ids)}
    return photos | {f"metadata/{one}.json": record(place % 4) for place, one in enumerate(ids)}


def folder_of(objects: dict[str, bytes], folder: Path) -> Store:
    for name, data in objects.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return open_store(str(folder))


@pytest.fixture
def store(objects: dict[str, bytes], tmp_path: Path) -> Store:
    return folder_of(objects, tmp_path / "store")


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for part in ("bin-images", "metadata")
        for path in (folder / part).glob("[!.]*")
    }


class Counting(http.server.BaseHTTPRequestHandler):
    """Serves `objects`, counts who asks for what, and may be slow or out of order for a while."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, bytes]]
    asked: ClassVar[Counter[str]]
    delay_s: ClassVar[float]
    under_way: ClassVar[list[int]]  # now, and at most so far
    trouble: ClassVar[Callable[[str, int], int] | None]

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.asked[name] += 1
        with COUNTING:
            self.under_way[0] += 1
            self.under_way[1] = max(self.under_way)
        time.sleep(self.delay_s)
        with COUNTING:
            self.under_way[0] -= 1
        status = type(self).trouble(name, self.asked[name]) if type(self).trouble else 0
        body = b"" if status else self.objects.get(name, b"")
        self.send_response(status or (200 if name in self.objects else 404))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A killed client is no news."""


@pytest.fixture
def web(objects: dict[str, bytes]) -> Iterator[tuple[str, type[Counting]]]:
    class Handler(Counting):
        asked: ClassVar[Counter[str]] = Counter()
        delay_s = 0.0
        under_way: ClassVar[list[int]] = [0, 0]
        trouble = None

    Handler.objects = dict(objects)
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()


ALL = "00001-00038,1,10"


def test_everything_listed_comes_whole(store: Store, objects: dict[str, bytes], tmp_path: Path) -> None:
    to = tmp_path / "to"
    report = fetch(store, to)
    assert files_in(to) == objects
    assert (report.chosen, report.fetched, report.skipped, report.num_objects) == (40, 40, 0, 80)
    assert report.num_bytes == sum(map(len, objects.values()))
    assert report.problems == ()
    body = json.loads((to / REPORT_FILE).read_text())
    assert (body["fetched"], body["problems"], body["source"]) == (40, [], store.url)
    assert sorted(path.name for path in to.iterdir()) == [NAME, "bin-images", REPORT_FILE, "metadata"]
    assert (to / "bin-images/1.jpg").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_is_whole_is_not_asked_for_again(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    url, handler = web
    store = open_store(url, QUICK)
    first = fetch(store, tmp_path, Choice(ids=ALL))
    handler.asked.clear()
    again = fetch(store, tmp_path, Choice(ids=ALL))
    assert (first.fetched, again.fetched, again.skipped, again.num_objects) == (40, 0, 40, 0)
    assert not handler.asked


def test_without_its_journal_the_files_themselves_tell(
    web: tuple[str, type[Counting]], objects: dict[str, bytes], tmp_path: Path
) -> None:
    url, handler = web
    fetch(open_store(url, QUICK), tmp_path, Choice(ids=ALL))
    (tmp_path / NAME).unlink()
    (tmp_path / "bin-images/00003.jpg").write_bytes(objects["bin-images/00003.jpg"][:300])
    (tmp_path / "metadata/00004.json").write_bytes(b"")
    (tmp_path / "bin-images/.00009.jpg.abc.part").write_bytes(b"half")
    handler.asked.clear()
    report = fetch(open_store(url, QUICK), tmp_path, Choice(ids=ALL))
    assert set(handler.asked) == {"bin-images/00003.jpg", "metadata/00004.json"}
    assert (report.fetched, report.skipped) == (2, 38)
    assert files_in(tmp_path) == objects  # and the half-written file of a killed run is gone


def test_a_file_that_shrank_since_is_fetched_again(
    web: tuple[str, type[Counting]], objects: dict[str, bytes], tmp_path: Path
) -> None:
    url, handler = web
    fetch(open_store(url, QUICK), tmp_path, Choice(ids="1,10"))
    (tmp_path / "bin-images/1.jpg").write_bytes(b"")  # as after a loss of power
    (tmp_path / "metadata/10.json").unlink()
    handler.asked.clear()
    fetch(open_store(url, QUICK), tmp_path, Choice(ids="1,10"))
    assert set(handler.asked) == {"bin-images/1.jpg", "metadata/10.json"}
    assert (tmp_path / "bin-images/1.jpg").read_bytes() == objects["bin-images/1.jpg"]


@pytest.mark.slow
def test_a_killed_fetch_goes_on_where_it_was(
    web: tuple[str, type[Counting]], objects: dict[str, bytes], tmp_path: Path
) -> None:
    url, handler = web
    handler.delay_s = 0.08
    in_flight = 4
    command = [sys.executable, "-m", "bintally", "fetch", url, "--to", str(tmp_path), "--ids", f"{ALL},77777"]
    command += ["--no-manifest", "--in-flight", str(in_flight)]
    for enough in (10, 30):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while len(files_in(tmp_path)) < enough and time.monotonic() < until:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_in(tmp_path) == objects
    twice = {name: times for name, times in handler.asked.items() if times > 1}
    # An id's photo and record are one job, and written together: both may have been under way.
    assert len(twice) <= 2 * 2 * in_flight, twice
    assert set(twice.values()) <= {2, 3}
    assert {"bin-images/77777.jpg", "metadata/77777.json"} <= set(handler.asked)


@pytest.mark.slow
def test_ctrl_c_is_clean(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    url, handler = web
    handler.delay_s = 0.2
    command = [sys.executable, "-m", "bintally", "fetch", url, "--to", str(tmp_path), "--ids", ALL]
    process = subprocess.Popen(
        [*command, "--in-flight", "3"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )
    until = time.monotonic() + 60
    while len(files_in(tmp_path)) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped; what was finished is kept" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.rglob("*.part"))


def test_what_is_missing_or_malformed_is_listed_and_stops_nothing(objects: dict[str, bytes], tmp_path: Path) -> None:
    cmyk = io.BytesIO()
    Image.new("CMYK", (40, 30)).save(cmyk, "JPEG")
    spoilt = dict(objects)
    del spoilt["bin-images/00001.jpg"], spoilt["metadata/00001.json"], spoilt["metadata/00002.json"]
    spoilt["bin-images/00003.jpg"] = objects["bin-images/00003.jpg"][:-200]
    spoilt["bin-images/00004.jpg"] = b""
    spoilt["bin-images/00005.jpg"] = b"<html>no photo</html>"
    spoilt["bin-images/00006.jpg"] = cmyk.getvalue()  # odd, and a photo
    spoilt["metadata/00007.json"] = b"{not json"
    spoilt["metadata/00008.json"] = b'{"BIN_FCSKU_DATA": {}}'
    spoilt["metadata/00009.json"] = b'{"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": -1}'
    to = tmp_path / "to"
    report = fetch(folder_of(spoilt, tmp_path / "store"), to, Choice(ids="00001-00012"))
    told = {(one["id"], one["what"]): one for one in json.loads((to / REPORT_FILE).read_text())["problems"]}
    assert {key: one["kind"] for key, one in told.items()} == {
        ("00001", "photo"): "missing",
        ("00001", "metadata"): "missing",
        ("00002", "metadata"): "missing",
        ("00003", "photo"): "malformed",
        ("00004", "photo"): "malformed",
        ("00005", "photo"): "malformed",
        ("00007", "metadata"): "malformed",
        ("00008", "metadata"): "malformed",
        ("00009", "metadata"): "malformed",
    }
    for key, why in [
        (("00003", "photo"), "truncated"),
        (("00004", "photo"), "empty"),
        (("00005", "photo"), "not a JPEG"),
        (("00007", "metadata"), "not JSON"),
        (("00008", "metadata"), "lacks EXPECTED_QUANTITY"),
        (("00009", "metadata"), "-1"),
    ]:
        assert why in told[key]["why"]
    assert (report.chosen, report.fetched, report.missing, report.malformed, report.failed) == (12, 4, 2, 6, 0)
    there = files_in(to)
    assert not {f"bin-images/{one}.jpg" for one in ("00001", "00003", "00004", "00005")} & set(there)
    assert {"bin-images/00002.jpg", "bin-images/00007.jpg", "metadata/00003.json", "bin-images/00006.jpg"} <= set(
        there
    )


def test_what_was_missing_is_asked_for_again_by_the_next_fetch(objects: dict[str, bytes], tmp_path: Path) -> None:
    less = {name: data for name, data in objects.items() if "00002" not in name}
    store = folder_of(less, tmp_path / "store")
    assert fetch(store, tmp_path / "to", Choice(ids="00001-00003")).missing == 1
    folder_of(objects, tmp_path / "store")
    assert fetch(store, tmp_path / "to", Choice(ids="00001-00003")).fetched == 1


def test_passing_trouble_leaves_no_trace(
    web: tuple[str, type[Counting]], objects: dict[str, bytes], tmp_path: Path
) -> None:
    url, handler = web
    handler.trouble = lambda _, times: 500 if times < 3 else 0
    report = fetch(open_store(url, QUICK), tmp_path, Choice(ids=ALL))
    assert report.problems == ()
    assert files_in(tmp_path) == objects


def test_an_object_that_the_store_fails_at_is_one_line(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    url, handler = web
    handler.trouble = lambda name, _: {"bin-images/00002.jpg": 500, "metadata/00003.json": 403}.get(name, 0)
    report = fetch(open_store(url, QUICK), tmp_path, Choice(ids="00001-00010"), settings=FetchSettings(in_flight=1))
    assert [(one.id, one.what, one.kind) for one in report.problems] == [
        ("00002", "photo", "failed"),
        ("00003", "metadata", "failed"),
    ]
    assert "500" in report.problems[0].why
    assert (report.fetched, report.failed) == (8, 2)


def test_a_store_that_always_fails_is_given_up(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    url, handler = web
    handler.trouble = lambda *_: 503
    settings = StoreSettings(backoff_s=0.001, retries=1)
    with pytest.raises(StoreError, match=r"10 failures in a row, the last: .* answered 503"):
        fetch(open_store(url, settings), tmp_path, Choice(ids="1-1000"), settings=FetchSettings(give_up_after=10))
    assert sum(handler.asked.values()) < 300


def test_refused_access_stops_at_once(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    url, handler = web
    handler.trouble = lambda *_: 403
    with pytest.raises(AccessDeniedError, match="access denied"):
        fetch(open_store(url, QUICK), tmp_path, Choice(ids="1-10000"))
    assert sum(handler.asked.values()) <= 2 * FetchSettings().in_flight


def test_an_unreachable_endpoint_stops_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        fetch(open_store("http://127.0.0.1:1/x", QUICK), tmp_path, Choice(ids="1-10000"))
    assert time.monotonic() - start < 20  # each of ten thousand would have taken its own


def test_a_store_that_has_nothing_of_it_is_the_wrong_one(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match="none of the 100 photos"):
        fetch(store, tmp_path / "to", Choice(ids="500-599"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ObjectNotFoundError, match="no photos under bin-images"):
        fetch(open_store(str(tmp_path / "empty")), tmp_path / "to")


def test_a_web_server_needs_names(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be listed.*--ids"):
        fetch(open_store(web[0], QUICK), tmp_path)


def test_so_many_of_each_count_without_a_list(store: Store, tmp_path: Path) -> None:
    report = fetch(store, tmp_path / "to", Choice(per_count=3))
    counts = Counter(
        json.loads(data)["EXPECTED_QUANTITY"]
        for name, data in files_in(tmp_path / "to").items()
        if name.startswith("metadata")
    )
    assert counts == {0: 3, 1: 3, 2: 3, 3: 3}
    assert report.chosen == 12
    assert fetch(store, tmp_path / "few", Choice(per_count=3, limit=4)).chosen == 4
    assert len(fetch(store, tmp_path / "five", Choice(limit=5)).ids) == 5


def test_a_list_of_the_course_and_so_many_of_each(store: Store, tmp_path: Path) -> None:
    body = {
        "1": [f"data/metadata/{n:05d}.json" for n in (2, 6, 10)],
        "2": ["data/metadata/00003.json"],
        "5": ["x/9.json"],
    }
    (tmp_path / "list.json").write_text(json.dumps(body))
    report = fetch(store, tmp_path / "to", Choice(list_file=tmp_path / "list.json", per_count=2))
    assert report.ids == ("9", "00002", "00003", "00006")
    assert (report.fetched, report.missing) == (3, 1)


def test_a_bad_choice_touches_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        fetch(store, tmp_path / "to", Choice(ids="3-1"))
    assert not (tmp_path / "to").exists()


def test_a_full_disk_stops_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    large = {f"bin-images/{n}.jpg": jpeg(n, side=300) for n in range(1, 21)}
    large |= {f"metadata/{n}.json": record(1) for n in range(1, 21)}
    store = folder_of(large, tmp_path / "store")
    with small_disk(tmp_path / "disk", 256 << 10) as disk:
        to = disk.path / "to"
        with pytest.raises(DiskFullError, match="no room left"):
            fetch(store, to)
        there = files_in(to)
        assert 0 < len(there) < len(large)
        assert all(large[name] == data for name, data in there.items())
        assert not (to / REPORT_FILE).exists()
        disk.grow(8 << 20)
        assert fetch(store, to).problems == ()
        assert files_in(to) == large


def test_progress_hears_of_every_photo(store: Store, tmp_path: Path) -> None:
    class Heard:
        def __init__(self) -> None:
            self.steps: Counter[str] = Counter()
            self.totals: dict[str, int | None] = {}
            self.task = ""

        def begin(self, task: str, total: int | None = None) -> None:
            self.task, self.totals[task] = task, total

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.steps[self.task] += steps

        def end(self) -> None:
            self.task = ""

        def message(self, text: str) -> None:
            return

    heard = Heard()
    fetch(store, tmp_path / "to", progress=heard)
    assert heard.steps == {"listing the store": 40, "fetching photos": 40}
    assert heard.totals["fetching photos"] == 40
    assert heard.task == ""


def test_the_command_line(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from bintally.cli.app import app

    words = ["fetch", store.url, "--to", str(tmp_path / "to"), "--ids", "00001-00003,9", "--no-manifest"]
    done = CliRunner().invoke(app, [*words, "--json", "--write-list", str(tmp_path / "list.json")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["fetched"] == 3
    assert json.loads((tmp_path / "list.json").read_text()) == {
        str(count): [f"data/metadata/0000{count + 1}.json"] for count in (0, 1, 2)
    }
    done = CliRunner().invoke(app, words)
    assert "3 there already, 1 missing" in done.stdout
    assert REPORT_FILE in done.stdout
    done = CliRunner().invoke(app, [*words, "--strict"])
    assert isinstance(done.exception, StoreError)
    assert "2 objects" in str(done.exception)
    done = CliRunner().invoke(app, ["fetch", store.url, "--to", store.url])
    assert isinstance(done.exception, UsageError)
    done = CliRunner().invoke(app, [*words, "--endpoint", "http://127.0.0.1:1"])
    assert isinstance(done.exception, UsageError)
    assert "--endpoint is for s3://bucket" in str(done.exception)


@pytest.mark.real
def test_real_photos_are_whole(abid: Path, tmp_path: Path) -> None:
    report = fetch(open_store(str(abid)), tmp_path, Choice(list_file=abid / "file_list.json", limit=300))
    assert report.malformed == report.failed == 0
    assert report.fetched + report.missing == 300
    assert report.fetched > 50


def test_requests_go_out_together(web: tuple[str, type[Counting]], tmp_path: Path) -> None:
    url, handler = web
    handler.delay_s = 0.1
    fetch(open_store(url, QUICK), tmp_path, Choice(ids=ALL), settings=FetchSettings(in_flight=20))
    assert 5 < handler.under_way[1] <= 20
