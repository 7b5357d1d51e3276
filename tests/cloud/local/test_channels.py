import json
from pathlib import Path

import pytest

from bintally.cloud.local.bucket import Bucket, TransferError
from bintally.cloud.local.channels import channel_objects, copy_channels
from bintally.cloud.local.tree import Tree
from tests.cloud.local.running import Cloud, channel, unique


@pytest.fixture
def bucket(cloud: Cloud) -> Bucket:
    return Bucket(cloud.service.access)


def test_copied_to_every_host_or_shared_out(cloud: Cloud, bucket: Bucket, tmp_path: Path) -> None:
    stem = unique("channel")
    for number in range(3):
        cloud.put(f"{stem}/{number}.jpg")
    job = {
        "InputDataConfig": [
            channel("all", f"s3://bintally/{stem}/"),
            channel("some", f"s3://bintally/{stem}/", S3DataDistributionType="ShardedByS3Key"),
        ]
    }
    trees = [Tree(root=tmp_path / host, host=host) for host in ("one", "two")]
    copy_channels(bucket, job, trees, bool)
    names = [[sorted(path.name for path in tree.channel(one).iterdir()) for one in ("all", "some")] for tree in trees]
    every = ["0.jpg", "1.jpg", "2.jpg"]
    assert names == [[every, ["0.jpg", "2.jpg"]], [every, ["1.jpg"]]]


def test_a_stop_leaves_the_rest(cloud: Cloud, bucket: Bucket, tmp_path: Path) -> None:
    uri = cloud.put(f"{unique('channel')}/a.jpg")
    tree = Tree(root=tmp_path, host="one")
    copy_channels(bucket, {"InputDataConfig": [channel("all", uri)]}, [tree], lambda: True)
    assert list(tree.channel("all").iterdir()) == []


def test_manifests(cloud: Cloud, bucket: Bucket) -> None:
    manifest = [{"prefix": "s3://bintally/photos/"}, "1/a.jpg", "2/b.jpg"]
    uri = cloud.put("list.json", json.dumps(manifest))
    found = channel_objects(bucket, {"S3DataType": "ManifestFile", "S3Uri": uri}, "role")
    assert found == [("bintally", "photos/1/a.jpg", "1/a.jpg"), ("bintally", "photos/2/b.jpg", "2/b.jpg")]
    for wrong in ('{"a": 1}', "[]", "no", '["a"]'):
        uri = cloud.put("wrong.json", wrong)
        with pytest.raises(TransferError, match="is no manifest"):
            channel_objects(bucket, {"S3DataType": "ManifestFile", "S3Uri": uri}, "role")


def test_nothing_there(bucket: Bucket) -> None:
    with pytest.raises(TransferError, match=r'No S3 objects found .* and that the role "me" has'):
        channel_objects(bucket, {"S3Uri": "s3://bintally/nothing/here"}, "me")
