"""The debug rules by name: pure judgements over what a training recorded, with the thresholds their users know."""

from typing import Literal

from bintally.learn.history import Rule
from bintally.learn.learning_rules import (
    ClassImbalance,
    Confusion,
    LossNotDecreasing,
    Overfit,
    Overtraining,
    StalledTraining,
)
from bintally.learn.tensor_rules import (
    CheckInputImages,
    DeadRelu,
    ExplodingTensor,
    PoorWeightInitialization,
    VanishingGradient,
    WeightUpdateRatio,
)

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
