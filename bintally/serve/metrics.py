"""What the server counts about itself, in Prometheus' text format, summed over all workers.

With several workers the supervisor sets PROMETHEUS_MULTIPROC_DIR before this module is imported; the library then
keeps every process's figures in files there, and each worker can answer for all.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric

from bintally.counts import CountDistribution
from bintally.serve.crew import Counted

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_SHARES = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """The server's figures.

    Args:
        gauges: gives name → (help, value) of what is read off at the moment of asking.
    """

    def __init__(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self._registry = CollectorRegistry()
        self._gauges = gauges
        own: dict[str, Any] = {"registry": self._registry, "namespace": "bintally"}
        self._requests = Counter("requests", "Requests answered.", ["route", "status"], **own)
        self._latency = Histogram(
            "request_seconds", "Time from headers to answer.", ["route"], buckets=_SECONDS, **own
        )
        self._phases = Histogram("photo_seconds", "A photo's time by phase.", ["phase"], buckets=_SECONDS, **own)
        self._photos = Counter("photos", "Photos taken up.", ["outcome"], **own)
        self._counts = Counter("counts", "Likeliest counts answered.", ["count"], **own)
        self._confidence = Histogram("confidence", "Probability of the likeliest count.", buckets=_SHARES, **own)
        self._reloads = Counter("reloads", "Models taken up on SIGHUP.", ["outcome"], **own)
        self._queue, self._decode, self._infer = (self._phases.labels(name) for name in ("queue", "decode", "infer"))

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(route, str(status)).inc()
        if status != 503:  # a refusal takes no time worth a histogram, and must not hide what answers take
            self._latency.labels(route).observe(seconds)

    def photo(self, counted: Counted) -> None:
        """One photo was counted, or found unreadable."""
        self._queue.observe(counted.queue_ms / 1e3)
        self._decode.observe(counted.decode_ms / 1e3)
        if isinstance(counted.answer, CountDistribution):
            self._infer.observe(counted.infer_ms / 1e3)
            self._photos.labels("counted").inc()
            self._counts.labels(counted.answer.name(counted.answer.count)).inc()
            self._confidence.observe(counted.answer.probability)
        else:
            self._photos.labels("unreadable").inc()

    def reload(self, outcome: str) -> None:
        """A model was taken up ("done") or refused ("failed")."""
        self._reloads.labels(outcome).inc()

    def collect(self) -> Iterable[Metric]:
        """The gauges; called by the library."""
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"bintally_{name}", text, value=value)

    def text(self) -> bytes:
        """Everything, over all workers."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            together = CollectorRegistry()
            multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            figures = generate_latest(together)
        else:
            figures = generate_latest(self._registry)
        now = CollectorRegistry()
        now.register(self)
        return figures + generate_latest(now)
