"""How far a counter was right: accuracy, errors in items, per count, proper scores, coverage, baselines. numpy only.

How honest its probabilities are stands in `calibration.py`, how sure a figure is in `resampling.py`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bintally.counts import CountRange

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

SMALLEST_PROBABILITY = 1e-12
"""A true count that was given less counts as this much in the negative log-likelihood, which stays finite."""

ROOT_OF_MEAN = frozenset({"rmse", "rmse_expected"})
"""The figures that are the square root of the mean of their `per_photo` values; every other one is the mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What a counter said of n photos, beside what lay in the bins. At least one photo.

    An open last class ("10 or more") is compared in two ways. Where an answer is right or wrong (accuracy,
    within-one, confusion, calibration), the true count is clipped to its class: 25 items called "10+" is right.
    Where the error is measured in items (RMSE, MAE), the true count stays as it is and the class stands for
    `open_mean` items: a counter gains nothing from closing its eyes to the fullest bins.

    Attributes:
        probabilities: (n, K), index = count from 0; rows sum to 1. A counter that starts at 1 has a column of zeros.
        true_counts: (n,), whole numbers, not clipped.
        open_mean: how many items the last class stands for when it means "K - 1 or more"; None when it is exact.
    """

    probabilities: Floats
    true_counts: Ints
    open_mean: float | None = None

    def __post_init__(self) -> None:
        probabilities = np.asarray(self.probabilities, dtype=np.float64)
        counts = np.asarray(self.true_counts)
        if probabilities.ndim != 2 or not probabilities.size:
            raise ValueError(f"probabilities have the shape (photos, counts), not {probabilities.shape}")
        if counts.shape != probabilities.shape[:1]:
            raise ValueError(f"{counts.shape} true counts for {len(probabilities)} photos")
        if not np.issubdtype(counts.dtype, np.integer) or counts.min() < 0:
            raise ValueError("true counts are whole numbers from 0")
        if not ((probabilities >= 0) & (probabilities <= 1)).all():  # NaN fails both comparisons
            raise ValueError("probabilities lie in 0..1")
        if np.abs(probabilities.sum(axis=1) - 1).max() > 1e-4:
            raise ValueError("the probabilities of a photo sum to 1")
        last = probabilities.shape[1] - 1
        if self.open_mean is None and counts.max() > last:
            raise ValueError(f"a true count of {counts.max()} is beyond the last class, {last}, which is exact")
        if self.open_mean is not None and self.open_mean < last:
            raise ValueError(f"the open class starts at {last}: its mean is not {self.open_mean}")
        object.__setattr__(self, "probabilities", probabilities)
        object.__setattr__(self, "true_counts", counts.astype(np.int64))

    def __len__(self) -> int:
        return len(self.true_counts)

    @property
    def num_classes(self) -> int:
        """K: the counts from 0 to the last class."""
        return int(self.probabilities.shape[1])

    @property
    def classes(self) -> Ints:
        """(n,) The true class: the true count, clipped to an open last class."""
        clipped: Ints = np.minimum(self.true_counts, self.num_classes - 1).astype(np.int64)
        return clipped

    @property
    def likeliest(self) -> Ints:
        """(n,) The likeliest class, the smaller one of a tie."""
        largest: Ints = self.probabilities.argmax(axis=1).astype(np.int64)
        return largest

    @property
    def confidence(self) -> Floats:
        """(n,) The probability of the likeliest class."""
        largest: Floats = self.probabilities.max(axis=1)
        return largest

    @property
    def correct(self) -> Mask:
        """(n,) Whether the likeliest class is the true one."""
        hits: Mask = self.likeliest == self.classes
        return hits

    @property
    def class_values(self) -> Floats:
        """(K,) How many items each class stands for: its count, and `open_mean` for an open last one."""
        values = np.arange(self.num_classes, dtype=np.float64)
        if self.open_mean is not None:
            values[-1] = self.open_mean
        return values

    @property
    def expected(self) -> Floats:
        """(n,) The mean of each photo's distribution, in items."""
        mean: Floats = self.probabilities @ self.class_values
        return mean

    def where(self, mask: Mask) -> "Predictions":
        """The predictions of the photos that `mask` (n,) names."""
        return Predictions(
            probabilities=self.probabilities[mask], true_counts=self.true_counts[mask], open_mean=self.open_mean
        )

    def up_to(self, highest: int = 5) -> "Predictions":
        """The photos with at most `highest` items, their distributions renormalised to 0..`highest`.

        That is what the counter says when it is told that the bin holds no more: how a counter of all bins is
        compared with the literature's counters of 0-5. A photo whose distribution has nothing there gets equal
        shares. Counters that end below `highest` get columns of zeros.
        """
        mask = self.true_counts <= highest
        kept = np.zeros((int(mask.sum()), highest + 1))
        width = min(highest + 1, self.num_classes)
        if self.open_mean is not None and self.num_classes <= highest + 1:
            raise ValueError(f"an open class from {self.num_classes - 1} cannot be told apart up to {highest}")
        kept[:, :width] = self.probabilities[mask, :width]
        totals = kept.sum(axis=1, keepdims=True)
        kept = np.where(totals > 0, kept / np.where(totals > 0, totals, 1.0), 1.0 / (highest + 1))
        return Predictions(probabilities=kept, true_counts=self.true_counts[mask])


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities from logits (..., K) divided by `temperature`, in float64, stable for any finite logits."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def predictions_of(
    logits: ArrayLike,
    true_counts: ArrayLike,
    counts: CountRange,
    *,
    temperature: float = 1.0,
    open_mean: float | None = None,
) -> Predictions:
    """Predictions from a counter's logits.

    Args:
        logits: (n, counts.num_classes); class k is the count `counts.lowest + k`.
        true_counts: (n,), not clipped.
        counts: the counter's range.
        temperature: divides the logits.
        open_mean: what an open last class stands for, in items; its own start when None. Not used otherwise.
    """
    shares = softmax(logits, temperature)
    below = np.zeros((len(shares), counts.lowest))
    mean = max(open_mean or 0.0, float(counts.highest)) if counts.open_ended else None
    return Predictions(
        probabilities=np.hstack([below, shares]), true_counts=np.asarray(true_counts, dtype=np.int64), open_mean=mean
    )


def per_photo(predictions: Predictions) -> dict[str, Floats]:
    """Name → (n,): what each photo adds to each figure. See `figures` for the names and `ROOT_OF_MEAN`.

    Negative log-likelihood and the multi-class Brier score (sum over classes of the squared difference, 0..2) as in
    Gneiting & Raftery 2007, "Strictly proper scoring rules, prediction, and estimation".
    """
    p, classes = predictions.probabilities, predictions.classes
    rows = np.arange(len(p))
    off_likeliest = predictions.class_values[predictions.likeliest] - predictions.true_counts
    off_expected = predictions.expected - predictions.true_counts
    given = p[rows, classes]
    return {
        "accuracy": predictions.correct.astype(np.float64),
        "within_one": (np.abs(predictions.likeliest - classes) <= 1).astype(np.float64),
        "rmse": off_likeliest**2,
        "mae": np.abs(off_likeliest),
        "rmse_expected": off_expected**2,
        "mae_expected": np.abs(off_expected),
        "bias_expected": off_expected,
        "nll": -np.log(np.maximum(given, SMALLEST_PROBABILITY)),
        "brier": (p**2).sum(axis=1) - 2 * given + 1,
    }


def figures(predictions: Predictions) -> dict[str, float]:
    """The figures of a set of predictions.

    Returns:
        accuracy: share of photos whose likeliest count is the true one.
        within_one: share of photos whose likeliest class is at most one class off.
        rmse, mae: error of the likeliest count, in items. The published RMSEs (abid_challenge) are by it.
        rmse_expected, mae_expected: error of the distribution's mean, in items.
        bias_expected: mean of that error with its sign; above 0 the counter counts too many.
        nll: mean negative log-likelihood of the true class, in nats.
        brier: mean multi-class Brier score, 0..2.
    """
    means = {name: float(values.mean()) for name, values in per_photo(predictions).items()}
    return {name: mean**0.5 if name in ROOT_OF_MEAN else mean for name, mean in means.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRow:
    """How photos of one true count fared.

    Attributes:
        count: the class; the last one of an open range means "or more".
        num_photos: how many photos have it.
        num_said: how many photos were given it as the likeliest.
        accuracy: share of its photos that were given it (the recall); None without such photos.
        precision: share of the photos given it that have it; None when it was never given.
        mean_expected: mean of the expected count over its photos, in items; None without such photos.
    """

    count: int
    num_photos: int
    num_said: int
    accuracy: float | None
    precision: float | None
    mean_expected: float | None


def per_count(predictions: Predictions) -> list[CountRow]:
    """One row a class, from 0 to the last one."""
    matrix = confusion(predictions)
    sums = np.bincount(predictions.classes, weights=predictions.expected, minlength=predictions.num_classes)
    rows = []
    for count in range(predictions.num_classes):
        photos, said, hits = int(matrix[count].sum()), int(matrix[:, count].sum()), int(matrix[count, count])
        rows.append(
            CountRow(
                count=count,
                num_photos=photos,
                num_said=said,
                accuracy=hits / photos if photos else None,
                precision=hits / said if said else None,
                mean_expected=float(sums[count] / photos) if photos else None,
            )
        )
    return rows


def confusion(predictions: Predictions) -> Ints:
    """(K, K): how many photos of true class (row) were given which class as the likeliest (column)."""
    size = predictions.num_classes
    flat = np.bincount(predictions.classes * size + predictions.likeliest, minlength=size * size)
    return flat.reshape(size, size).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coverage:
    """What a counter gains by leaving out the photos it is least sure of.

    Attributes:
        coverage: (n,) share of photos kept: 1/n, 2/n … 1, the surest first.
        accuracy: (n,) accuracy on the photos kept.
        risk_area: mean of 1 - accuracy over all coverages (the area under the risk-coverage curve); lower is better.
    """

    coverage: Floats
    accuracy: Floats
    risk_area: float

    def accuracy_at(self, share: float) -> float:
        """The accuracy on the surest `share` of the photos, at least one."""
        kept = max(1, min(len(self.coverage), round(share * len(self.coverage))))
        return float(self.accuracy[kept - 1])


def coverage(predictions: Predictions) -> Coverage:
    """Accuracy against coverage, ranked by the likeliest count's probability.

    Photos of equal probability count with their mean, so their order does not matter. Geifman & El-Yaniv 2017,
    "Selective classification for deep neural networks"; the area as in Geifman, Uziel & El-Yaniv 2019,
    "Bias-reduced uncertainty estimation for deep neural classifiers".
    """
    _, place, size = np.unique(-predictions.confidence, return_inverse=True, return_counts=True)
    hits = np.bincount(place, weights=predictions.correct) / size
    kept = np.arange(1, len(predictions) + 1)
    accuracy = np.cumsum(np.repeat(hits, size)) / kept
    return Coverage(coverage=kept / len(predictions), accuracy=accuracy, risk_area=float((1 - accuracy).mean()))


def class_shares(true_counts: ArrayLike, num_classes: int) -> Floats:
    """(num_classes,) The share of each class among `true_counts`, larger ones clipped to the last class.

    One photo is spread over all classes beforehand, so that no class has a share of zero.
    """
    classes = np.minimum(np.asarray(true_counts, dtype=np.int64), num_classes - 1)
    found = np.bincount(classes, minlength=num_classes) + 1.0 / num_classes
    shares: Floats = found / found.sum()
    return shares


def blind(shares: Floats, true_counts: ArrayLike, open_mean: float | None = None) -> Predictions:
    """The counter that never looks: it gives every photo the same class shares.

    Its accuracy and `rmse` are those of always naming the majority class, its `nll` and `rmse_expected` those of the
    class shares alone. Whoever looks at photos must beat it on the same photos.
    """
    truth = np.asarray(true_counts, dtype=np.int64)
    return Predictions(
        probabilities=np.tile(np.asarray(shares, dtype=np.float64), (len(truth), 1)),
        true_counts=truth,
        open_mean=open_mean,
    )
