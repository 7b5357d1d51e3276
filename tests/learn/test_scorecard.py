import json

import numpy as np
import pytest

from bintally.counts import CountRange
from bintally.learn.scorecard import Effort, Scored, scopes
from bintally.scores import class_shares

EFFORT = Effort(resamples=200, simulations=100, num_bins=15, seed=0)


def scored(n: int, counts: CountRange, most: int, seed: int = 0) -> Scored:
    luck = np.random.default_rng(seed)
    labels = luck.integers(counts.lowest, most + 1, n)
    truth = np.minimum(labels, counts.highest) - counts.lowest
    logits = luck.normal(size=(n, counts.num_classes)) + 2 * np.eye(counts.num_classes)[truth]
    return Scored(
        logits=logits,
        labels=labels,
        groups=tuple(str(k // 2) for k in range(n)),
        counts=counts,
        open_mean=12.0 if counts.open_ended else None,
        shares=class_shares(labels, counts.highest + 1),
    )


@pytest.mark.parametrize(
    ("counts", "most", "names"),
    [
        (CountRange(), 5, ["own"]),
        (CountRange(lowest=1), 5, ["own"]),
        (CountRange(highest=3), 3, ["own"]),
        (CountRange(highest=10, open_ended=True), 15, ["own", "few", "few_told"]),
        (CountRange(highest=10), 10, ["own", "few", "few_told"]),
        (CountRange(lowest=1, highest=10, open_ended=True), 15, ["own", "few", "few_told"]),
    ],
)
def test_which_photos_are_scored_how(counts: CountRange, most: int, names: list[str]) -> None:
    blocks = scopes(scored(200, counts, most), 1.5, EFFORT)
    assert [block["name"] for block in blocks] == names
    for block in blocks:
        assert block["gain"]["accuracy"]["low"] > 0
        assert block["gain"]["nll"]["high"] < 0
        assert sum(row["num_photos"] for row in block["raw"]["per_count"]) == block["num_photos"]
        assert block["calibrated"]["coverage"]["curve"][-1] == [
            1.0,
            pytest.approx(block["calibrated"]["figures"]["accuracy"]["value"]),
        ]
    json.dumps(blocks, allow_nan=False)


def test_a_counter_of_all_bins_without_a_photo_of_few() -> None:
    full = scored(50, CountRange(highest=10, open_ended=True), 15)
    many = full.labels > 5
    only = Scored(
        logits=full.logits[many],
        labels=full.labels[many],
        groups=full.groups[: int(many.sum())],
        counts=full.counts,
        open_mean=full.open_mean,
        shares=full.shares,
    )
    assert [block["name"] for block in scopes(only, None, EFFORT)] == ["own"]


def test_one_photo() -> None:
    (block,) = scopes(scored(1, CountRange(), 5), None, EFFORT)
    assert block["num_photos"] == 1
    assert block["calibrated"] is None
    json.dumps(block, allow_nan=False)


def test_a_counter_from_one_never_says_none_blindly() -> None:
    one = scored(100, CountRange(lowest=1), 5)
    assert one.blind().probabilities[:, 0].max() == 0
