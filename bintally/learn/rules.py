"""The debug rules: pure judgements over what a training recorded, with the thresholds their users know.

Names, meanings and default thresholds are those of the managed debugger that many know (Amazon SageMaker Debugger's
built-in rules, https://docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html). Where its documentation
leaves room, the docstring of a rule says how it is read here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorStats:
    """What is kept of one tensor at one step. Figures are None where they are not finite.

    Attributes:
        mean_abs: mean of the absolute values.
        variance: of the values.
        spread: 95th minus 5th percentile of the values.
        finite: whether every value is a finite number.
    """

    mean_abs: float | None = None
    variance: float | None = None
    spread: float | None = None
    finite: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was read at one watched step. Layers are named as in the model; frozen ones do not appear.

    Attributes:
        step: training steps done, from 1.
        epoch: from 1.
        loss: the step's training loss, None when it is no finite number.
        mean_loss: mean training loss of the steps since the check before, this one included.
        seconds: the longest time between two steps since the check before.
        gradients: weight name → statistics of its gradient.
        weights: weight name → statistics of its values, after the step.
        updates: weight name → mean absolute change of this step / mean absolute value before it.
        relu_inputs: layer → statistics of what comes into its ReLU.
        dead_relus: layer → share of its channels that are active (output above 0) in less than 1 % of places.
        input_sum: sum of all normalised input values seen since the check before.
        input_values: how many values that sum is over.
        input_photos: how many photos they came from.
        labels: how often each class was a label since the check before.
    """

    step: int
    epoch: int
    loss: float | None
    mean_loss: float | None
    seconds: float = 0.0
    gradients: Mapping[str, TensorStats] = field(default_factory=dict)
    weights: Mapping[str, TensorStats] = field(default_factory=dict)
    updates: Mapping[str, float | None] = field(default_factory=dict)
    relu_inputs: Mapping[str, TensorStats] = field(default_factory=dict)
    dead_relus: Mapping[str, float] = field(default_factory=dict)
    input_sum: float = 0.0
    input_values: int = 0
    input_photos: int = 0
    labels: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What was read at the end of an epoch.

    Attributes:
        step: training steps done.
        epoch: from 1.
        train_loss: mean training loss of the epoch, None when not finite.
        loss: validation loss, None when not finite. Both are plain cross-entropy, without smoothing or weights.
        confusion: confusion[true class][predicted class], in photos of the validation part.
    """

    step: int
    epoch: int
    train_loss: float | None
    loss: float | None
    confusion: Sequence[Sequence[int]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that was recorded of a run so far. `idle` is the time in seconds since the last step, for a run that goes on."""

    checks: Sequence[Check] = ()
    validations: Sequence[Validation] = ()
    finished: bool = False
    idle: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where a rule's condition held.

    Attributes:
        rule: the rule's name.
        step: training steps done.
        where: the layer, or what else was looked at, such as "training loss".
        value: the figure that was found; None when it is not finite.
        threshold: the figure that it was held against.
        message: one sentence.
    """

    rule: str
    step: int
    where: str
    value: float | None
    threshold: float
    message: str


class Rule(Protocol):
    """A rule: its settings are its fields, its judgement a pure function of the history."""

    advice: ClassVar[str]

    def findings(self, history: History) -> Iterator[Finding]:
        """Everything in `history` where the condition held, in order of steps."""


def _finding(rule: Rule, step: int, where: str, value: float | None, threshold: float, message: str) -> Finding:
    return Finding(
        rule=type(rule).__name__, step=step, where=where, value=value, threshold=threshold, message=message
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VanishingGradient:
    """A trained weight's mean absolute gradient is below `threshold`."""

    threshold: Positive = 1e-7
    advice: ClassVar[str] = (
        "A layer without gradient learns nothing. Look for zeroed or saturated layers behind it, a learning rate that "
        "killed its ReLUs, or a loss already at zero; batch norm, residual connections and a fresh initialisation help."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check and layer."""
        for check in history.checks:
            for name, stats in check.gradients.items():
                if stats.finite and stats.mean_abs is not None and stats.mean_abs < self.threshold:
                    yield _finding(
                        self,
                        check.step,
                        name,
                        stats.mean_abs,
                        self.threshold,
                        f"mean absolute gradient {stats.mean_abs:.2g}",
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplodingTensor:
    """A gradient, weight, activation or loss holds NaN or infinity."""

    advice: ClassVar[str] = (
        "Numbers left the range of floats. Lower the learning rate, warm it up, clip gradients, check the inputs' "
        "scale, and look for a logarithm or division of zero in the loss. Everything after this step is lost."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check and tensor."""
        for check in history.checks:
            if check.loss is None:
                yield _finding(self, check.step, "training loss", None, 0.0, "the loss is not a finite number")
            kinds = (("gradient of", check.gradients), ("weights", check.weights), ("input of", check.relu_inputs))
            for kind, tensors in kinds:
                for name, stats in tensors.items():
                    if not stats.finite:
                        yield _finding(self, check.step, f"{kind} {name}", None, 0.0, "holds NaN or infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRelu:
    """More than `threshold` of a layer's ReLUs (channels) are active in less than 1 % of places.

    Looked at over all photos of the watched batch and all positions, in training mode.
    """

    threshold: Share = 0.5
    advice: ClassVar[str] = (
        "Dead channels carry nothing and get no gradient. Usual causes: a learning rate too high at the start, large "
        "negative biases, inputs far off zero. Lower or warm up the rate, re-initialise, or use a leaky activation. "
        "In pretrained networks a few sparse layers are normal."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check and layer."""
        for check in history.checks:
            for name, share in check.dead_relus.items():
                if share > self.threshold:
                    yield _finding(
                        self,
                        check.step,
                        name,
                        share,
                        self.threshold,
                        f"{share:.0%} of its ReLUs are hardly ever active",
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoorWeightInitialization:
    """Within the first `steps` checks, layers are out of proportion and the loss does not fall.

    Out of proportion: the largest variance of a layer's ReLU inputs over the smallest exceeds `threshold`, or a
    layer's gradient is spread (5th to 95th percentile) over less than `distribution_range` of the widest layer's
    spread. The rule fires when that holds for `patience` checks in a row over which the mean loss did not fall by
    0.1 %: proportions alone say little of pretrained networks, which train well with far wider ones.
    """

    threshold: Positive = 10.0
    distribution_range: Positive = 0.001
    patience: Whole = 5
    steps: Whole = 10
    advice: ClassVar[str] = (
        "Start from pretrained weights or from an initialisation made for the activation (He et al. 2015 for ReLUs), "
        "do not zero more than the last layer, and check that every layer was initialised at all."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check that completes the patience."""
        run = 0
        first = history.checks[: self.steps]
        for place, check in enumerate(first):
            bad = self._out_of_proportion(check)
            run = run + 1 if bad else 0
            if (
                bad
                and run >= self.patience
                and not _fell(first[place - self.patience + 1].mean_loss, check.mean_loss)
            ):
                value, threshold, what = bad
                yield _finding(self, check.step, what, value, threshold, f"{what} and the loss does not fall")

    def _out_of_proportion(self, check: Check) -> tuple[float | None, float, str] | None:
        variances = [s.variance for s in check.relu_inputs.values() if s.variance is not None]
        if len(variances) > 1:
            ratio = max(variances) / max(min(variances), 1e-12)
            if ratio > self.threshold:
                return ratio, self.threshold, "ReLU inputs of layers differ in variance"
        spreads = [s.spread for s in check.gradients.values() if s.spread is not None]
        if spreads:
            least = min(spreads) / max(max(spreads), 1e-12)
            if least < self.distribution_range:
                return least, self.distribution_range, "a layer's gradients lie in a very narrow range"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossNotDecreasing:
    """The mean training loss fell by less than `diff_percent` % over `num_steps` checks.

    A loss at or below `floor` has nowhere to fall and is no finding. The familiar rule compares single steps; here the
    mean loss between checks is compared, since single batches go up and down in every healthy training.
    """

    diff_percent: Positive = 0.1
    num_steps: Whole = 10
    floor: Annotated[float, Field(ge=0)] = 0.1
    advice: ClassVar[str] = (
        "Try a learning rate ten times lower and ten times higher for a hundred steps each; check that the right "
        "layers are unfrozen, that labels belong to their photos, and that the inputs are normalised. Late in a training "
        "it may simply be done: compare with the validation loss."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check."""
        checks = history.checks
        for place in range(self.num_steps, len(checks)):
            before, now = checks[place - self.num_steps].mean_loss, checks[place].mean_loss
            if before is None or now is None or before <= self.floor:
                continue
            drop = 100 * (before - now) / before
            if drop < self.diff_percent:
                yield _finding(
                    self,
                    checks[place].step,
                    "training loss",
                    drop,
                    self.diff_percent,
                    f"{before:.3f} → {now:.3f} since step {checks[place - self.num_steps].step}: a drop of {drop:.2f} %",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfit:
    """(validation loss − training loss) / training loss exceeds `ratio_threshold` for `patience` epochs in a row."""

    ratio_threshold: Positive = 0.1
    patience: Whole = 1
    advice: ClassVar[str] = (
        "The counter learns its photos by heart. More photos help most; then fewer unfrozen stages, stronger "
        "augmentation, dropout, weight decay, label smoothing, or stopping earlier: the epoch kept is the best on validation."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per epoch."""
        run = 0
        for one in history.validations:
            ratio = None
            if one.loss is not None and one.train_loss is not None:
                ratio = (one.loss - one.train_loss) / max(one.train_loss, 1e-6)
            run = run + 1 if ratio is not None and ratio > self.ratio_threshold else 0
            if ratio is not None and run >= self.patience:
                yield _finding(
                    self,
                    one.step,
                    "validation loss",
                    ratio,
                    self.ratio_threshold,
                    f"epoch {one.epoch}: validation {one.loss:.3f}, training {one.train_loss:.3f}",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtraining:
    """No gain above `delta` in the training loss for `patience_train` epochs, or in validation for `patience_validation`."""

    patience_train: Whole = 5
    patience_validation: Whole = 10
    delta: Positive = 0.01
    advice: ClassVar[str] = (
        "The training goes on after it has stopped learning. Set early stopping (train.patience), fewer epochs, or a "
        "schedule that lowers the learning rate in time."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per epoch."""
        for kind, patience in (("training", self.patience_train), ("validation", self.patience_validation)):
            best, since = math.inf, 0
            for one in history.validations:
                loss = one.train_loss if kind == "training" else one.loss
                if loss is None:
                    continue
                if loss < best - self.delta:
                    best, since = loss, 0
                    continue
                since += 1
                if since >= patience:
                    yield _finding(
                        self,
                        one.step,
                        f"{kind} loss",
                        float(since),
                        float(patience),
                        f"epoch {one.epoch}: no gain above {self.delta} for {since} epochs",
                    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassImbalance:
    """The largest class is `threshold_imbalance` times the smallest, or a class is mispredicted too often.

    Judged once `samples` labels were seen. The second half looks at the last validation: a class of which more than
    `threshold_misprediction` are predicted as another one, while classes are imbalanced by half the threshold or more.
    """

    threshold_imbalance: Positive = 10.0
    threshold_misprediction: Share = 0.7
    samples: Whole = 500
    advice: ClassVar[str] = (
        'Weight the classes (train.class_weights = "sqrt" or "balanced") or draw them evenly (train.sampling), gather '
        "more of the rare ones, or cover fewer counts. Mind that weights bend the probabilities: calibrate afterwards."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields at most one finding for the labels and one per class for mispredictions."""
        seen: list[int] = []
        ratio = 0.0
        for check in history.checks:
            seen = [a + b for a, b in zip(seen or [0] * len(check.labels), check.labels, strict=False)]
            if sum(seen) >= self.samples:
                ratio = max(seen) / max(min(seen), 0.5)
                if ratio > self.threshold_imbalance:
                    yield _finding(
                        self,
                        check.step,
                        "labels",
                        ratio,
                        self.threshold_imbalance,
                        f"labels seen per class: {', '.join(map(str, seen))}",
                    )
                break
        if not history.finished or not history.validations or ratio < self.threshold_imbalance / 2:
            return
        last = history.validations[-1]
        for true, row in enumerate(last.confusion):
            total = sum(row)
            if total and 1 - row[true] / total > self.threshold_misprediction:
                wrong = 1 - row[true] / total
                yield _finding(
                    self,
                    last.step,
                    f"class {true}",
                    wrong,
                    self.threshold_misprediction,
                    f"{wrong:.0%} of its {total} validation photos are predicted as another class",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """At the end, a class is recognised less often than `min_diag`, or taken for one other more often than `max_off_diag`.

    Judged on the last validation of a finished run: before, every network confuses everything.
    """

    min_diag: Share = 0.9
    max_off_diag: Share = 0.1
    advice: ClassVar[str] = (
        "Look at the photos of the confused classes: wrong labels, or counts that the photo does not show? Neighbouring "
        "counts of hidden items are confused by people too; the familiar thresholds were made for objects, not for counts."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per class and one per pair of classes."""
        if not history.finished or not history.validations:
            return
        last = history.validations[-1]
        for true, row in enumerate(last.confusion):
            total = sum(row)
            for predicted, number in enumerate(row):
                share = number / total if total else 0.0
                if predicted == true and total and share < self.min_diag:
                    text = f"{share:.0%} of class {true} is recognised"
                    yield _finding(self, last.step, f"class {true}", share, self.min_diag, text)
                elif predicted != true and share > self.max_off_diag:
                    text = f"{share:.0%} of class {true} is taken for class {predicted}"
                    yield _finding(self, last.step, f"class {true} as {predicted}", share, self.max_off_diag, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUpdateRatio:
    """A weight's mean change in one step over its mean size is above `large_threshold` or below `small_threshold`.

    Biases and the two vectors of a norm are left out: they start at zero, where a ratio says nothing.
    """

    large_threshold: Positive = 10.0
    small_threshold: Positive = 1e-8
    advice: ClassVar[str] = (
        "A healthy step changes weights by about a thousandth of their size. Far above: lower the learning rate. Far "
        "below: raise it, or find out why the layer gets no gradient."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check and layer."""
        for check in history.checks:
            for name, ratio in check.updates.items():
                if ratio is None:
                    continue
                if ratio > self.large_threshold:
                    text = f"one step changed it by {ratio:.3g} times its size"
                    yield _finding(self, check.step, name, ratio, self.large_threshold, text)
                elif ratio < self.small_threshold:
                    text = f"one step changed it by {ratio:.3g} of its size"
                    yield _finding(self, check.step, name, ratio, self.small_threshold, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckInputImages:
    """The mean of the normalised inputs over the first `samples` photos is off zero by more than `threshold_mean`."""

    threshold_mean: Positive = 0.2
    samples: Whole = 500
    advice: ClassVar[str] = (
        "Normalise inputs with the statistics that the backbone was pretrained with (they stand on the card), or with "
        "those of your own photos when training from scratch. Bins are darker and yellower than ImageNet: a small "
        "offset is theirs."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields at most one finding."""
        photos, values, total = 0, 0, 0.0
        for check in history.checks:
            photos, values, total = photos + check.input_photos, values + check.input_values, total + check.input_sum
            if photos >= self.samples:
                mean = total / max(values, 1)
                if not math.isfinite(mean) or abs(mean) > self.threshold_mean:
                    found = mean if math.isfinite(mean) else None
                    text = f"mean {mean:.3f} over {photos} photos"
                    yield _finding(self, check.step, "inputs", found, self.threshold_mean, text)
                return


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledTraining:
    """No step for more than `threshold` seconds."""

    threshold: Positive = 1800.0
    advice: ClassVar[str] = (
        "The process waits for something: a loader on a slow disk or bucket, another host, swap. `bintally profile` shows "
        "where a step's time goes; a run that was stopped goes on with the same command."
    )

    def findings(self, history: History) -> Iterator[Finding]:
        """Yields one finding per check with such a gap, and one for a run that stands now."""
        for check in history.checks:
            if check.seconds > self.threshold:
                text = f"{check.seconds:,.0f} s between two steps"
                yield _finding(self, check.step, "steps", check.seconds, self.threshold, text)
        if not history.finished and history.idle > self.threshold:
            last = history.checks[-1].step if history.checks else 0
            text = f"{history.idle:,.0f} s since the last step"
            yield _finding(self, last, "steps", history.idle, self.threshold, text)


RULES: dict[str, type[Rule]] = {
    rule.__name__: rule
    for rule in (
        VanishingGradient,
        ExplodingTensor,
        DeadRelu,
        PoorWeightInitialization,
        LossNotDecreasing,
        Overfit,
        Overtraining,
        ClassImbalance,
        Confusion,
        WeightUpdateRatio,
        CheckInputImages,
        StalledTraining,
    )
}
"""Every rule by its name, in the order in which reports list them."""

RuleName = Literal[
    "VanishingGradient",
    "ExplodingTensor",
    "DeadRelu",
    "PoorWeightInitialization",
    "LossNotDecreasing",
    "Overfit",
    "Overtraining",
    "ClassImbalance",
    "Confusion",
    "WeightUpdateRatio",
    "CheckInputImages",
    "StalledTraining",
]


def _fell(before: float | None, now: float | None) -> bool:
    """Whether the loss fell by a thousandth or more. A loss that is no number did not fall."""
    return before is not None and now is not None and now < before * 0.999
