"""The drawn store: the public layout, the same bytes whoever draws it, all of it or none."""

import errno
import json
from pathlib import Path

import pytest

from bintally.bins import parse_record
from bintally.data import draw
from bintally.data.draw import DrawSettings, DrawSummary, draw_store, list_of
from bintally.errors import DiskFullError, SettingsError, StoreError
from bintally.pixels import decode
from bintally.settings import fill

SETTINGS = DrawSettings(num_photos=40, seed=5, size=96, wrong=0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> DrawSummary:
    return draw_store(tmp_path_factory.mktemp("drawn") / "store", SETTINGS, workers=1)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_store_is_laid_out_like_the_public_one(store: DrawSummary) -> None:
    names = sorted(files_of(store.folder))
    ids = [f"{number:05d}" for number in range(1, 41)]
    assert names == sorted(
        ["file_list.json", *(f"bin-images/{i}.jpg" for i in ids), *(f"metadata/{i}.json" for i in ids)]
    )


def test_photos_and_records_can_be_read(store: DrawSummary) -> None:
    true_count = {}
    for path in sorted((store.folder / "metadata").iterdir()):
        record = parse_record(path.read_bytes(), path.stem)
        assert record.expected_quantity == record.total
        true_count[path.stem] = store.wrong.get(path.stem, record.expected_quantity)
        photo = (store.folder / "bin-images" / f"{path.stem}.jpg").read_bytes()
        height, width, _ = decode(photo).shape
        assert 0.55 < width / height < 1.75
        assert 60 < (width * height) ** 0.5 < 130
        assert 800 < len(photo) < 12_000
    assert {count: list(true_count.values()).count(count) for count in set(true_count.values())} == store.counts


def test_the_list_file_names_one_to_five(store: DrawSummary) -> None:
    listed = json.loads((store.folder / "file_list.json").read_bytes())
    assert list(listed) == ["1", "2", "3", "4", "5"]
    for count, names in listed.items():
        for name in names:
            path = store.folder / name.removeprefix("data/")
            assert parse_record(path.read_bytes(), path.stem).expected_quantity == int(count)
    assert list_of({"00001": 2, "00002": 0, "00003": 7}) == {
        "1": [],
        "2": ["data/metadata/00001.json"],
        "3": [],
        "4": [],
        "5": [],
    }


def test_the_summary_says_what_was_drawn(store: DrawSummary) -> None:
    assert store.num_photos == sum(store.counts.values()) == 40
    assert 13 < store.num_series < 40
    assert store.num_bytes == sum(path.stat().st_size for path in (store.folder / "bin-images").iterdir())
    assert 0.1 < store.hidden_share < 0.35
    assert 1 <= len(store.wrong) <= 12


def test_any_number_of_processes_draws_the_same_bytes(
    store: DrawSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "_CHUNK", 1)  # so that there is work for two
    again = draw_store(tmp_path / "again", SETTINGS, workers=2)
    assert files_of(again.folder) == files_of(store.folder)
    assert (again.counts, again.wrong) == (store.counts, store.wrong)
    assert again.hidden_share == pytest.approx(store.hidden_share)


class Steps:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.ended = False

    def begin(self, task: str, total: int | None = None) -> None:
        self.total = total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps

    def end(self) -> None:
        self.ended = True

    def message(self, text: str) -> None:
        pass


def test_progress_hears_of_every_photo(tmp_path: Path) -> None:
    steps = Steps()
    draw_store(tmp_path / "store", DrawSettings(num_photos=9, size=64), steps, workers=1)
    assert (steps.total, steps.done, steps.ended) == (9, 9, True)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match="not empty"):
        draw_store(tmp_path / "store", SETTINGS)
    assert files_of(tmp_path) == {"store/mine.txt": b"keep"}


def test_an_empty_folder_is_drawn_into(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    draw_store(tmp_path / "store", DrawSettings(num_photos=2, size=64), workers=1)
    assert len(files_of(tmp_path / "store")) == 5


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "00004.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match="no room left"):
        draw_store(tmp_path / "store", SETTINGS, workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "value"), [("num_photos", 0), ("size", 5), ("hidden", 0.9), ("blurred", -0.1)])
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(SettingsError, match=key):
        fill(DrawSettings, "draw", environ={}, flags={key: value})
