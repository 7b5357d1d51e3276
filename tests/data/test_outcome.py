import json

from bintally.data.outcome import FetchReport, Problem


def test_the_report_in_words_and_in_json() -> None:
    problem = Problem(id="00523", what="photo", kind="missing", why="not in the store")
    report = FetchReport(
        source="s3://a",
        ids=("523", "00523"),
        fetched=1,
        skipped=0,
        missing=1,
        malformed=0,
        failed=0,
        num_objects=3,
        num_bytes=2_500_000,
        seconds=1.5,
        problems=(problem,),
    )
    assert report.line() == (
        "2 photos asked for: 1 fetched (2.5 MB in 1.5 s, 2 objects/s), 0 there already, 1 missing, 0 malformed, 0 failed"
    )
    body = json.loads(json.dumps(report.as_json()))
    assert body["chosen"] == 2
    assert body["problems"] == [{"id": "00523", "what": "photo", "kind": "missing", "why": "not in the store"}]
    assert "ids" not in body
