"""A training's channels: which objects of the bucket go to which host, and how they get there."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bintally.cloud.local.bucket import Bucket, TransferError, split_uri
from bintally.cloud.local.tree import Tree


def copy_channels(bucket: Bucket, job: Mapping[str, Any], trees: Sequence[Tree], stopped: Callable[[], bool]) -> None:
    """Copies every channel of a job into its hosts' trees.

    Args:
        bucket: where from.
        job: as DescribeTrainingJob answers it.
        trees: of the hosts.
        stopped: once it says so, the rest is left.

    Raises:
        TransferError: a channel is empty, or cannot be read; the message is the job's FailureReason.
    """
    for channel in job.get("InputDataConfig", []):
        source = channel["DataSource"]["S3DataSource"]
        wanted = channel_objects(bucket, source, job.get("RoleArn", ""))
        sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
        for place, tree in enumerate(trees):
            own = wanted[place :: len(trees)] if sharded else wanted
            by_bucket: dict[str, list[tuple[str, str]]] = {}
            for name_of_bucket, key, name in own:
                by_bucket.setdefault(name_of_bucket, []).append((key, name))
            for name_of_bucket, pairs in by_bucket.items():
                bucket.download(name_of_bucket, pairs, tree.channel(channel["ChannelName"]), stopped)


def channel_objects(bucket: Bucket, source: Mapping[str, Any], role: str) -> list[tuple[str, str, str]]:
    """The objects of one channel: bucket, key and name below the channel's folder of each.

    Raises:
        TransferError: there are none, or they cannot be listed.
    """
    uri = source["S3Uri"]
    if source.get("S3DataType", "S3Prefix") == "S3Prefix":
        name_of_bucket = split_uri(uri)[0]
        found = [(name_of_bucket, one.key, one.name) for one in bucket.list(uri)]
    else:
        found = _manifest(bucket, uri)
    if not found:
        raise TransferError(
            f"ClientError: Data download failed:No S3 objects found under S3 URL {uri!r} given in input data source. "
            "Please ensure that the bucket exists in the selected region, that objects exist under that S3 prefix, "
            f'and that the role "{role}" has "s3:ListBucket" permissions on bucket "{split_uri(uri)[0]}".'
        )
    return found


def _manifest(bucket: Bucket, uri: str) -> list[tuple[str, str, str]]:
    try:
        prefix, *rest = json.loads(bucket.read(uri))
        base = prefix["prefix"]
        return [(*split_uri(base + name), name.lstrip("/")) for name in rest]
    except (ValueError, TypeError, KeyError) as error:
        raise TransferError(
            f'ClientError: {uri} is no manifest: write [{{"prefix": "s3://bucket/folder/"}}, "name", …]'
        ) from error
