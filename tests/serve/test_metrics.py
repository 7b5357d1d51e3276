"""The figures."""

from bintally.counts import CountDistribution, Unreadable
from bintally.serve.crew import Counted
from bintally.serve.metrics import Metrics


def counted(answer: CountDistribution | Unreadable) -> Counted:
    return Counted(answer=answer, model_id="one", queue_ms=1, decode_ms=2, infer_ms=3)


def test_what_happened_can_be_read_off() -> None:
    metrics = Metrics(lambda: {"queue": ("Waiting.", 7)})
    metrics.request("/invocations", 200, 0.03)
    metrics.request("/invocations", 503, 0.0001)
    metrics.photo(counted(CountDistribution(probabilities=(0.1, 0.7, 0.2), open_mean=3.0)))
    metrics.photo(counted(CountDistribution(probabilities=(0.1, 0.2, 0.7), open_mean=3.0)))
    metrics.photo(counted(Unreadable(reason="x")))
    metrics.reload("failed")
    lines = metrics.text().decode().splitlines()
    for line in (
        'bintally_requests_total{route="/invocations",status="200"} 1.0',
        'bintally_requests_total{route="/invocations",status="503"} 1.0',
        'bintally_request_seconds_count{route="/invocations"} 1.0',
        'bintally_counts_total{count="1"} 1.0',
        'bintally_counts_total{count="2+"} 1.0',
        'bintally_photos_total{outcome="unreadable"} 1.0',
        'bintally_photos_total{outcome="counted"} 2.0',
        'bintally_confidence_bucket{le="0.6"} 0.0',
        "bintally_confidence_count 2.0",
        'bintally_photo_seconds_count{phase="infer"} 2.0',
        'bintally_reloads_total{outcome="failed"} 1.0',
        "bintally_queue 7.0",
    ):
        assert line in lines
