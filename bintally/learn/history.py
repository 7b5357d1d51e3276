"""What a watched training recorded, what a debug rule finds in it, and what a rule is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol


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
        activations: layer with trained weights → statistics of what comes out of it; the head's are the logits.
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
    activations: Mapping[str, TensorStats] = field(default_factory=dict)
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


def finding(rule: Rule, step: int, where: str, value: float | None, threshold: float, message: str) -> Finding:
    """A finding of this rule."""
    return Finding(
        rule=type(rule).__name__, step=step, where=where, value=value, threshold=threshold, message=message
    )
