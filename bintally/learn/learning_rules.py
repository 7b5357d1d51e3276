"""The debug rules that look at how learning goes: losses, labels, what is confused with what, and whether it goes on.

Names, meanings and default thresholds are those of the managed debugger that many know (Amazon SageMaker Debugger's
built-in rules, https://docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html). Where its documentation
leaves room, the docstring of a rule says how it is read here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from bintally.learn.history import Finding, History, finding

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]


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
                yield finding(
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
                yield finding(
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
                    yield finding(
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
                    yield finding(
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
                yield finding(
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
                    yield finding(self, last.step, f"class {true}", share, self.min_diag, text)
                elif predicted != true and share > self.max_off_diag:
                    text = f"{share:.0%} of class {true} is taken for class {predicted}"
                    yield finding(self, last.step, f"class {true} as {predicted}", share, self.max_off_diag, text)


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
                yield finding(self, check.step, "steps", check.seconds, self.threshold, text)
        if not history.finished and history.idle > self.threshold:
            last = history.checks[-1].step if history.checks else 0
            text = f"{history.idle:,.0f} s since the last step"
            yield finding(self, last, "steps", history.idle, self.threshold, text)
