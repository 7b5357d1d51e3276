"""The debug rules that look at numbers in the network: inputs, activations, gradients, weights and their changes.

Names, meanings and default thresholds are those of the managed debugger that many know (Amazon SageMaker Debugger's
built-in rules, https://docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html). Where its documentation
leaves room, the docstring of a rule says how it is read here.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from bintally.learn.history import Check, Finding, History, finding

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]


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
                    yield finding(
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
                yield finding(self, check.step, "training loss", None, 0.0, "the loss is not a finite number")
            kinds = {"gradient of": check.gradients, "weights": check.weights}
            kinds |= {"output of": check.activations, "input of": check.relu_inputs}
            for kind, tensors in kinds.items():
                for name, stats in tensors.items():
                    if not stats.finite:
                        yield finding(self, check.step, f"{kind} {name}", None, 0.0, "holds NaN or infinity")


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
                    yield finding(
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
                yield finding(self, check.step, what, value, threshold, f"{what} and the loss does not fall")

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
                    yield finding(self, check.step, name, ratio, self.large_threshold, text)
                elif ratio < self.small_threshold:
                    text = f"one step changed it by {ratio:.3g} of its size"
                    yield finding(self, check.step, name, ratio, self.small_threshold, text)


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
                    yield finding(self, check.step, "inputs", found, self.threshold_mean, text)
                return


def _fell(before: float | None, now: float | None) -> bool:
    """Whether the loss fell by a thousandth or more. A loss that is no number did not fall."""
    return before is not None and now is not None and now < before * 0.999
