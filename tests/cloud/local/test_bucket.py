import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from bintally.cloud.local.bucket import Access, Bucket, Mirror, TransferError, split_uri
from tests.cloud.local.running import Cloud, unique


@pytest.fixture
def bucket(cloud: Cloud) -> Bucket:
    return Bucket(cloud.service.access)


def test_prefixes_name_what_lies_below_them(cloud: Cloud, bucket: Bucket) -> None:
    stem = unique("prefix")
    for key in ("a/1.jpg", "a/b/2.jpg", "ab.jpg"):
        cloud.put(f"{stem}/{key}", key)

    def names(prefix: str) -> list[str]:
        return [one.name for one in bucket.list(f"s3://bintally/{stem}{prefix}")]

    assert names("") == names("/") == ["a/1.jpg", "a/b/2.jpg", "ab.jpg"]
    assert names("/a/") == ["1.jpg", "b/2.jpg"]
    assert names("/a/1.jpg") == ["1.jpg"]
    # As the service has it: a prefix is no folder, and takes its neighbours along.
    assert names("/a") == ["1.jpg", "b/2.jpg", "ab.jpg"]


def test_there_and_back(bucket: Bucket, tmp_path: Path) -> None:
    stem = unique("folder")
    here = tmp_path / "here"
    (here / "deep").mkdir(parents=True)
    (here / "a.bin").write_bytes(bytes(range(256)) * 50_000)
    (here / "deep" / "ü b.txt").write_text("x")
    (here / "empty").write_bytes(b"")
    bucket.upload_folder(here, f"s3://bintally/{stem}/")
    found = bucket.list(f"s3://bintally/{stem}/")
    assert [one.num_bytes for one in found] == [256 * 50_000, 1, 0]
    bucket.download("bintally", [(one.key, one.name) for one in found], tmp_path / "there")
    for path in ("a.bin", "deep/ü b.txt", "empty"):
        assert (tmp_path / "there" / path).read_bytes() == (here / path).read_bytes()


def test_archives(bucket: Bucket, tmp_path: Path) -> None:
    uri = f"s3://bintally/{unique('archive')}/model.tar.gz"
    for host in ("one", "two"):
        (tmp_path / host / "sub").mkdir(parents=True)
        (tmp_path / host / "sub" / "same.txt").write_text(host)
        (tmp_path / host / f"{host}.txt").write_text("x")
    bucket.upload_archive([tmp_path / "one", tmp_path / "two"], uri, tmp_path)
    bucket.download_archive(uri, tmp_path / "out")
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt"))
    assert names == ["one.txt", "sub/same.txt", "two.txt"]
    assert (tmp_path / "out" / "sub" / "same.txt").read_text() == "one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "two"]


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_archives_stay_in_their_folder(cloud: Cloud, bucket: Bucket, tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    uri = cloud.put(f"{unique('evil')}.tar.gz", out.getvalue())
    with contextlib.suppress(TransferError):
        bucket.download_archive(uri, tmp_path / "model")
    assert not (tmp_path / "outside").exists()
    assert not Path("/etc/outside").exists()


def test_what_is_no_archive(cloud: Cloud, bucket: Bucket, tmp_path: Path) -> None:
    uri = cloud.put(f"{unique('plain')}.tar.gz", b"no archive")
    with pytest.raises(TransferError, match=r"is no \.tar\.gz"):
        bucket.download_archive(uri, tmp_path / "model")
    with pytest.raises(TransferError, match="Could not find or read model data at s3://bintally/nothing"):
        bucket.download_archive("s3://bintally/nothing", tmp_path / "model")


def test_names_do_not_lead_out(bucket: Bucket, cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("plain.txt")
    with pytest.raises(TransferError, match="leads out of its folder"):
        bucket.download("bintally", [("plain.txt", "../outside.txt")], tmp_path / "in")


def test_trouble_is_one_line(bucket: Bucket) -> None:
    with pytest.raises(TransferError, match=r"ClientError: .*NoSuchBucket") as caught:
        bucket.list("s3://no-such-bucket/x")
    assert "\n" not in str(caught.value)
    with pytest.raises(TransferError, match="is no S3 URI"):
        split_uri("https://host/x")
    nobody = Bucket(Access(endpoint="http://127.0.0.1:9", access_key="a", secret_key="b"))
    with pytest.raises(TransferError, match="Could not connect"):
        nobody.write("s3://b/k", b"x")


def test_a_mirror_sends_what_changed(bucket: Bucket, cloud: Cloud, tmp_path: Path) -> None:
    stem = unique("mirror")
    here = tmp_path / "here"
    here.mkdir()
    mirror = Mirror(bucket, here, f"s3://bintally/{stem}/")
    assert mirror.restore() == 0
    (here / "a").write_text("1")
    (here / ".b.part").write_text("half")
    assert mirror.send() == 1
    assert mirror.send() == 0
    (here / "a").write_text("22")
    os.utime(here / "a", (0, 0))
    (here / "new").write_text("x")
    assert mirror.send(settled_s=3600) == 1
    assert mirror.send() == 1
    (here / "a").unlink()
    assert mirror.send() == 0
    assert cloud.keys(stem) == [f"{stem}/a", f"{stem}/new"]
    there = tmp_path / "there"
    there.mkdir()
    again = Mirror(bucket, there, f"s3://bintally/{stem}")
    assert again.restore() == 2
    assert (there / "a").read_text() == "22"
    assert again.send() == 0
