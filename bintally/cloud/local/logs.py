"""The logs of jobs and endpoints: groups of streams of lines, kept as JSON lines and read by CloudWatch's operations."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bintally.cloud.local.state import now
from bintally.cloud.local.wire import ServiceError, page

TRAINING = "/aws/sagemaker/TrainingJobs"
TRANSFORM = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"

_LONGEST = 256 * 1024
_MOST_BYTES = 1024 * 1024
_MOST_EVENTS = 10_000


class Logs:
    """Every log group. Safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def add(self, group: str, stream: str, message: str) -> None:
        """Writes one line."""
        path = self._path(group, stream)
        line = json.dumps({"timestamp": int(now() * 1000), "message": message[:_LONGEST]}) + "\n"
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(line)

    def writer(self, group: str, stream: str) -> Callable[[str], None]:
        """What writes lines to one stream."""
        return lambda message: self.add(group, stream, message)

    def tail(self, group: str, stream: str, num: int) -> list[str]:
        """The last lines of a stream."""
        path = self._path(group, stream)
        return [one["message"] for one in _events(path)[-num:]] if path.is_file() else []

    def operations(self) -> dict[tuple[str, str], Any]:
        """The operations of CloudWatch Logs that are carried out here."""
        return {
            ("logs", "DescribeLogGroups"): self._describe_groups,
            ("logs", "DescribeLogStreams"): self._describe_streams,
            ("logs", "GetLogEvents"): self._get_events,
            ("logs", "FilterLogEvents"): self._filter_events,
            ("logs", "DeleteLogStream"): self._delete_stream,
            ("logs", "DeleteLogGroup"): self._delete_group,
        }

    def _path(self, group: str, stream: str) -> Path:
        return self._folder / quote(group, safe="") / f"{quote(stream, safe='')}.jsonl"

    def _describe_groups(self, params: dict[str, Any]) -> dict[str, Any]:
        prefix = params.get("logGroupNamePrefix", "")
        names = sorted(unquote(path.name) for path in self._folder.glob("*") if path.is_dir())
        return {"logGroups": [{"logGroupName": name} for name in names if name.startswith(prefix)][:50]}

    def _streams(self, params: dict[str, Any]) -> list[Path]:
        folder = self._folder / quote(params.get("logGroupName", ""), safe="")
        if not folder.is_dir():
            raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")
        return sorted(folder.glob("*.jsonl"), key=lambda path: unquote(path.stem))

    def _stream(self, params: dict[str, Any]) -> Path:
        self._streams(params)
        path = self._path(params["logGroupName"], params["logStreamName"])
        if not path.is_file():
            raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
        return path

    def _describe_streams(self, params: dict[str, Any]) -> dict[str, Any]:
        prefix = params.get("logStreamNamePrefix", "")
        found = []
        for path in self._streams(params):
            name = unquote(path.stem)
            if not name.startswith(prefix):
                continue
            events = _events(path)
            entry: dict[str, Any] = {"logStreamName": name}
            if events:
                first, last = events[0]["timestamp"], events[-1]["timestamp"]
                entry |= {"creationTime": first, "firstEventTimestamp": first, "lastEventTimestamp": last}
                entry |= {"lastIngestionTime": last}
            found.append(entry)
        if params.get("orderBy") == "LastEventTime":
            found.sort(key=lambda one: one.get("lastEventTimestamp", 0))
        if params.get("descending"):
            found.reverse()
        return page(found, params, "logStreams", size="limit", goes_on="nextToken", most=50)

    def _get_events(self, params: dict[str, Any]) -> dict[str, Any]:
        events = _events(self._stream(params))
        limit = params.get("limit", _MOST_EVENTS)
        token = params.get("nextToken", "")
        direction, _, place = token.partition("/")
        if token and (direction not in {"f", "b"} or not place.isdigit()):
            raise ServiceError("InvalidParameterException", "The specified nextToken is invalid.")
        forward = direction == "f" or (not token and params.get("startFromHead", False))
        since, until = params.get("startTime", 0), params.get("endTime", float("inf"))
        if forward:
            start = int(place or 0)
            end = start + len(_fitting(events[start : start + limit]))
        else:
            end = min(int(place), len(events)) if place else len(events)
            start = end - len(_fitting(events[max(0, end - limit) : end][::-1]))
        return {
            "events": [
                {**one, "ingestionTime": one["timestamp"]}
                for one in events[start:end]
                if since <= one["timestamp"] < until
            ],
            "nextForwardToken": f"f/{end}",
            "nextBackwardToken": f"b/{start}",
        }

    def _filter_events(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
        pattern = params.get("filterPattern", "").strip('"')
        since, until = params.get("startTime", 0), params.get("endTime", float("inf"))
        found = [
            {**event, "ingestionTime": event["timestamp"], "logStreamName": name, "eventId": f"{place:056d}"}
            for path in self._streams(params)
            if (name := unquote(path.stem)).startswith(prefix) and (wanted is None or name in wanted)
            for place, event in enumerate(_events(path))
            if pattern in event["message"] and since <= event["timestamp"] <= until
        ]
        found.sort(key=lambda one: one["timestamp"])
        return page(found, params, "events", size="limit", goes_on="nextToken", most=_MOST_EVENTS)

    def _delete_stream(self, params: dict[str, Any]) -> None:
        self._stream(params).unlink(missing_ok=True)

    def _delete_group(self, params: dict[str, Any]) -> None:
        streams = self._streams(params)
        for path in streams:
            path.unlink(missing_ok=True)
        (self._folder / quote(params["logGroupName"], safe="")).rmdir()


def _events(path: Path) -> list[dict[str, Any]]:
    events = []
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:  # the line that a killed service was writing
            continue
    return events


def _fitting(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first events of a list that an answer has room for; at least one."""
    room = _MOST_BYTES
    for place, event in enumerate(events):
        room -= len(event["message"].encode()) + 26
        if room < 0:
            return events[: max(1, place)]
    return events
