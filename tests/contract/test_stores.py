"""What every store must do, over a folder, memory, and two S3 servers that differ (moto's and rclone's)."""

import asyncio
import hashlib
import io
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image

from bintally.data.choose import Choice
from bintally.data.fetch import fetch
from bintally.data.store import Store, StoreSettings, open_store
from bintally.errors import AccessDeniedError, ObjectNotFoundError, StoreError
from tests.contract.stand_ins import make_bucket

T = TypeVar("T")

RECORD = b'{"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": 2}'


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def names(store: Store, folder: str = "") -> list[str]:
    async def all_of_them() -> list[str]:
        return sorted([one.name async for one in store.list(folder)])

    return run(all_of_them())


def test_what_is_put_can_be_got(store: Store) -> None:
    data = bytes(range(256)) * 40
    run(store.put("bin-images/00523.jpg", data))
    assert run(store.get("bin-images/00523.jpg")) == data
    info = run(store.head("bin-images/00523.jpg"))
    assert (info.name, info.num_bytes) == ("bin-images/00523.jpg", len(data))
    assert run(store.sha256("bin-images/00523.jpg")) == hashlib.sha256(data).hexdigest()
    run(store.put("bin-images/00523.jpg", b"other"))
    assert run(store.get("bin-images/00523.jpg")) == b"other"


def test_an_empty_object_is_an_object(store: Store) -> None:
    run(store.put("empty", b""))
    assert run(store.get("empty")) == b""
    assert run(store.exists("empty"))


def test_a_large_file_goes_in_parts(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (7 << 12))  # 7 MiB: more than one part
    run(store.put("models/large", path))
    assert run(store.head("models/large")).num_bytes == path.stat().st_size
    assert run(store.sha256("models/large")) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_not_there(store: Store) -> None:
    run(store.put("there", b"x"))
    with pytest.raises(ObjectNotFoundError, match=r"nothing\.jpg: there is no such object"):
        run(store.get("nothing.jpg"))
    with pytest.raises(ObjectNotFoundError):
        run(store.head("nothing.jpg"))
    with pytest.raises(ObjectNotFoundError):
        run(store.sha256("nothing.jpg"))
    assert not run(store.exists("nothing.jpg"))
    run(store.delete("nothing.jpg"))


def test_listing_and_removing(store: Store) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "a/b/3.jpg", "ab/4.jpg", "5"):
        run(store.put(name, b"x"))
    assert names(store) == ["5", "a/1.jpg", "a/2.jpg", "a/b/3.jpg", "ab/4.jpg"]
    assert names(store, "a") == ["a/1.jpg", "a/2.jpg", "a/b/3.jpg"]
    assert names(store, "none") == []
    run(store.delete("a/1.jpg"))
    assert names(store, "a") == ["a/2.jpg", "a/b/3.jpg"]


def test_many_at_once(store: Store) -> None:
    async def all_of_them() -> list[bytes]:
        await asyncio.gather(*(store.put(f"many/{n}", str(n).encode()) for n in range(60)))
        return await asyncio.gather(*(store.get(f"many/{n}") for n in range(60)))

    assert run(all_of_them()) == [str(n).encode() for n in range(60)]


def test_a_fetch_takes_all_that_is_listed(store: Store, tmp_path: Path, jpeg: bytes) -> None:
    for photo_id in ("1", "00001", "2"):
        run(store.put(f"bin-images/{photo_id}.jpg", jpeg))
        run(store.put(f"metadata/{photo_id}.json", RECORD))
    run(store.put("bin-images/note.txt", b"x"))
    report = fetch(store, tmp_path / "to")
    assert (report.ids, report.fetched, report.problems) == (("1", "2", "00001"), 3, ())
    assert (tmp_path / "to/bin-images/00001.jpg").read_bytes() == jpeg
    report = fetch(store, tmp_path / "to", Choice(ids="1,3"))
    assert (report.skipped, report.missing) == (1, 1)


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "orange").save(out, "JPEG")
    return out.getvalue()


def test_wrong_credentials_are_refused(rclone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for unsigned in (False, True):
        store = open_store("s3://b", StoreSettings(endpoint=rclone, unsigned=unsigned))
        with pytest.raises(AccessDeniedError, match="access denied"):
            run(store.get("x"))
        with pytest.raises(AccessDeniedError):
            names(store)


def test_a_private_bucket_is_refused_to_strangers(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    make_bucket(moto, "private", public=False)
    # Nothing but these two is asked for: of what is not there moto says "not found", where S3 says "denied", and whatever
    # the store answers first shows whether it lets one in.
    for key in ("bin-images/1.jpg", "metadata/1.json"):
        run(open_store("s3://private", StoreSettings(endpoint=moto)).put(key, b"x"))
    stranger = open_store("s3://private", StoreSettings(endpoint=moto, unsigned=True))
    with pytest.raises(AccessDeniedError, match="access denied"):
        fetch(stranger, tmp_path, Choice(ids="1"))


def test_a_bucket_that_is_not_there(moto: str) -> None:
    store = open_store("s3://nosuchbucket", StoreSettings(endpoint=moto, unsigned=True))
    with pytest.raises(ObjectNotFoundError, match="no such bucket"):
        names(store)
    with pytest.raises(StoreError):
        run(store.put("x", b"x"))
