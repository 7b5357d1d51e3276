import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from bintally.cloud.artifacts import count_objects, output_uris, pack_model, split_uri, take_output, upload_model
from bintally.cloud.jobs import TRAINING, State
from bintally.cloud.options import CloudSettings
from bintally.cloud.service import Service
from bintally.errors import CloudError, ModelError, UsageError
from tests.model_folder import make_model

TOLD = {"TrainingJobName": "job", "OutputDataConfig": {"S3OutputPath": "s3://the-bucket/out/"}}
STATE = State(kind=TRAINING, name="job", status="Completed", told=TOLD)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        service = Service(CloudSettings(region="us-east-1", attempts=1))
        service.client("s3").create_bucket(Bucket="the-bucket")
        yield service


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_addresses() -> None:
    assert split_uri("s3://the-bucket/a/b.tar.gz") == ("the-bucket", "a/b.tar.gz")
    assert split_uri("s3://the-bucket") == ("the-bucket", "")
    with pytest.raises(UsageError, match="is no s3://bucket/key"):
        split_uri("/a/b")
    assert output_uris(TOLD) == {
        "s3://the-bucket/out/job/output/model.tar.gz": "model",
        "s3://the-bucket/out/job/output/output.tar.gz": "output",
    }


def test_a_model_is_packed_to_the_same_bytes(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    pack_model(tmp_path / "model", tmp_path / "one.tar.gz")
    (tmp_path / "model" / "model.json").touch()
    pack_model(tmp_path / "model", tmp_path / "two.tar.gz")
    with tarfile.open(tmp_path / "one.tar.gz") as one, tarfile.open(tmp_path / "two.tar.gz") as two:
        assert one.getnames() == ["model.json", "openvino.bin", "openvino.xml"]
        assert [member.get_info() for member in one] == [member.get_info() for member in two]


def test_what_is_no_model_is_not_sent(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    (tmp_path / "model" / "openvino.bin").write_bytes(b"damaged")
    with pytest.raises(ModelError):
        pack_model(tmp_path / "model", tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()


def test_there_and_back(bucket: Service, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    upload_model(bucket, tmp_path / "model", "s3://the-bucket/out/job/output/model.tar.gz")
    reports = archive({"history.csv": b"epoch\n1\n", "watch/a.json": b"{}"})
    bucket.client("s3").put_object(Bucket="the-bucket", Key="out/job/output/output.tar.gz", Body=reports)
    to = tmp_path / "run"
    (to / "model").mkdir(parents=True)
    (to / "model" / "old").touch()
    assert take_output(bucket, STATE, to) == [to / "model", to / "output"]
    assert (to / "output" / "watch" / "a.json").read_bytes() == b"{}"
    assert (to / "model" / "openvino.xml").read_bytes() == (tmp_path / "model" / "openvino.xml").read_bytes()
    assert not (to / "model" / "old").exists()
    assert count_objects(bucket, "s3://the-bucket/out/") == 2


def test_a_job_may_have_left_only_a_part(bucket: Service, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="left neither a model nor an output"):
        take_output(bucket, STATE, tmp_path / "run")
    reports = archive({"history.csv": b"epoch\n"})
    bucket.client("s3").put_object(Bucket="the-bucket", Key="out/job/output/output.tar.gz", Body=reports)
    assert take_output(bucket, STATE, tmp_path / "run") == [tmp_path / "run" / "output"]


@pytest.mark.parametrize("body", [archive({"../evil": b"x"}), b"no archive at all"], ids=["climbs-out", "no-archive"])
def test_an_archive_cannot_leave_its_folder(bucket: Service, tmp_path: Path, body: bytes) -> None:
    bucket.client("s3").put_object(Bucket="the-bucket", Key="out/job/output/model.tar.gz", Body=body)
    with pytest.raises(CloudError, match="no archive that can be unpacked"):
        take_output(bucket, STATE, tmp_path / "run")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_a_bucket_that_is_not_there(bucket: Service, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    with pytest.raises(CloudError, match="PutObject s3://elsewhere"):
        upload_model(bucket, tmp_path / "model", "s3://elsewhere/model.tar.gz")
