"""The lines that a job writes, out of CloudWatch Logs: in order, each once, and on as they come."""

from collections.abc import Callable, Iterator

from bintally.cloud.jobs import ENDPOINT, TUNING, Kind
from bintally.cloud.service import Service
from bintally.errors import UsageError

PAGE = 1000
"""Lines asked for at once."""


class Tail:
    """The streams of one job, and how far each has been read.

    A job on several machines has a stream for each, and a container that was started again another one; lines then
    bear the stream's name.

    Args:
        service: where the job runs.
        kind: of the job.
        name: of the job.
    """

    def __init__(self, service: Service, kind: Kind, name: str) -> None:
        if kind is TUNING:
            raise UsageError(
                f"the tuning {name} writes no log; its trainings do: `bintally cloud status {name}` lists them"
            )
        self._service = service
        self._group = kind.log_group.format(name=name)
        self._prefix = "" if kind is ENDPOINT else f"{name}/"
        self._read: dict[str, str] = {}

    def show(self, line: Callable[[str], None]) -> int:
        """Hands on the lines that are new; returns how many."""
        num = 0
        for text in self.new():
            line(text)
            num += 1
        return num

    def new(self) -> Iterator[str]:
        """The lines that are new, stream by stream."""
        streams = self._streams()
        for stream in streams:
            short = stream.removeprefix(self._prefix)
            mark = f"[{short}] " if len(streams) > 1 else ""
            for text in self._lines(stream):
                yield f"{mark}{text}"

    def _streams(self) -> list[str]:
        request = {"logGroupName": self._group}
        if self._prefix:
            request["logStreamNamePrefix"] = self._prefix
        found: list[str] = []
        while True:
            answer = self._service.find("DescribeLogStreams", **request)
            if answer is None:
                return []  # the group comes with the first line that any job writes
            found += [one["logStreamName"] for one in answer.get("logStreams", ())]
            if not answer.get("nextToken"):
                return sorted(found)
            request["nextToken"] = answer["nextToken"]

    def _lines(self, stream: str) -> Iterator[str]:
        token = self._read.get(stream, "")
        while True:
            where = {"logGroupName": self._group, "logStreamName": stream}
            more = {"nextToken": token} if token else {}
            answer = self._service.find("GetLogEvents", **where, **more, startFromHead=True, limit=PAGE)
            if answer is None:
                return
            for event in answer.get("events", ()):
                yield event["message"].rstrip("\n")
            following = answer.get("nextForwardToken", "")
            self._read[stream] = following or token
            if not following or following == token:
                return  # the same token again is how the service says "no more yet"
            token = following
