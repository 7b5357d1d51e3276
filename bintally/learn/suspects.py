"""Which labels look wrong to a counter that never saw them, and how far it can be believed about that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cleanlab.count import compute_confident_joint, estimate_joint
from cleanlab.rank import get_label_quality_scores

from bintally.learn.slices import ends
from bintally.resampling import bootstrap_means
from bintally.scores import Floats, Ints, Predictions

SURPRISES = (0.01, 0.02, 0.05)
"""Probabilities below which a label is a surprise."""

CHECKED = 0.1
"""Of the labels, ranked by suspicion, the share that somebody would look at."""


def ranked(said: Predictions) -> Ints:
    """Places of the photos, the most suspicious label first: the one that was given the least probability.

    "Self-confidence" in confident learning (Northcutt, Jiang & Chuang 2021, https://arxiv.org/abs/1911.00068).
    """
    labels, probabilities = _classes(said)
    scores: Floats = get_label_quality_scores(labels, probabilities, method="self_confidence")
    return np.argsort(scores, kind="stable").astype(np.int64)


def joint(said: Predictions) -> dict[str, Any]:
    """What confident learning makes of labels and probabilities together.

    Returns:
        `counts`: names of the rows and columns; `confident`: the confident joint, how many photos of a label (row) were
        confidently given a count (column), scaled to the labels; `noise`: share of labels that it holds for wrong. That
        is the wrong labels' share only where the counter itself is hardly ever wrong: see `planted`.
    """
    labels, probabilities = _classes(said)
    table = compute_confident_joint(labels, probabilities)
    share = estimate_joint(labels, probabilities, confident_joint=table)
    return {
        "counts": [int(count) for count in np.unique(said.classes)],
        "confident": np.asarray(table).round().astype(int).tolist(),
        "noise": float(1 - np.trace(share)),
    }


def planted(said: Predictions, *, share: float, seed: int) -> list[dict[str, Any]]:
    """What the ranking and the confident joint make of wrong labels that were put in on purpose.

    A share of the labels is moved by one, two or three counts, up or down by chance, where the range allows it. The
    labels as they are may be wrong as well, so what is found is a little less than what could be.

    Returns:
        One row a distance, JSON-ready: `off`, `planted`: how many; `found`: share of them among the first tenth of the
        ranking; `times`: how many times what a look at photos by chance finds; `noise`: the confident joint's share with
        them in it; `before`: without them.
    """
    rows = []
    before = joint(said)["noise"]
    last = said.num_classes - 1
    lowest = int(said.classes.min())
    for off in (1, 2, 3):
        luck = np.random.default_rng((seed, off))
        number = max(1, round(share * len(said)))
        up, down = said.classes + off <= last, said.classes - off >= lowest
        places = luck.permutation(np.flatnonzero(up | down))[:number]
        if not len(places):
            continue
        sign = np.where(luck.random(len(said)) < 0.5, 1, -1)
        sign = np.where(up & ~down, 1, np.where(down & ~up, -1, sign))
        moved = said.classes.copy()
        moved[places] += off * sign[places]
        wrong = Predictions(probabilities=said.probabilities, true_counts=moved, open_mean=said.open_mean)
        looked = ranked(wrong)[: max(1, round(CHECKED * len(said)))]
        found = float(np.isin(places, looked).mean())
        rows.append(
            {
                "off": off,
                "planted": len(places),
                "found": found,
                "times": found * len(said) / len(looked),
                "noise": joint(wrong)["noise"],
                "before": before,
            }
        )
    return rows


def surprises(said: Predictions, groups: Sequence[str], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """How often labels had next to no probability, beside how often they should have.

    Were the counter calibrated and every label right, counts that it gives less than t would be true as often as it
    says: the sum of those probabilities. More of them than that are labels that nothing in the photo speaks for, or a
    counter that is too sure of itself; a temperature fitted on the same kind of labels hides some.

    Returns:
        One row a threshold: `below`, and as shares of the photos with intervals `seen`, `expected`, `excess`.
    """
    given = said.probabilities[np.arange(len(said)), said.classes]
    rows = []
    for below in SURPRISES:
        seen = (given < below).astype(np.float64)
        expected = np.where(said.probabilities < below, said.probabilities, 0.0).sum(axis=1)
        found = bootstrap_means(
            {"seen": seen, "expected": expected, "excess": seen - expected}, groups, resamples=resamples, seed=seed
        )
        known = len(set(groups)) > 1
        rows.append({"below": below} | {name: ends(one, known=known) for name, one in found.items()})
    return rows


def _classes(said: Predictions) -> tuple[Ints, Floats]:
    """Labels from 0 without gaps, and the probabilities of those counts: counts that no photo has are left out."""
    there, labels = np.unique(said.classes, return_inverse=True)
    kept = np.maximum(said.probabilities[:, there], 1e-12)
    return labels.astype(np.int64), kept / kept.sum(axis=1, keepdims=True)
