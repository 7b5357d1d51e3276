"""Small trainings made sick on purpose, one for each debug rule, and healthy ones: which rule fires where.

Each run is a small convolutional network on noisy patterns of three classes, followed by the very recorder that
follows a real training. `python -m benchmarks sick` prints the matrix: in how many of ten seeds each rule fired.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks._matrix import Matrix
from bintally.learn.history import Rule
from bintally.learn.learning_rules import StalledTraining
from bintally.learn.rules import RULES
from bintally.learn.watch import Recorder, judge, load_rules

SEEDS = 10
SHORT = {"Overfit": "Ofit", "Overtraining": "Otrain", "Confusion": "Conf"}
CLASSES = 3
BATCH = 64
SIDE = 12
VALIDATION = 2000


@dataclass(kw_only=True)
class Case:
    """One training: a healthy one by default."""

    rule: str = ""
    optimizer: str = "adam"
    rate: float = 5e-4
    epochs: int = 4
    steps: int = 30
    signal: float = 0.45
    shares: tuple[float, ...] = (1.0, 1.0, 1.0)
    offset: float = 0.0
    photos: int = 0
    random_labels: bool = False
    same_classes: bool = False
    sleep: float = 0.0
    prepare: Callable[[nn.Sequential], None] = lambda _: None
    rules: dict[str, Rule] = field(default_factory=load_rules)


def zero_middle_layer(model: nn.Sequential) -> None:
    """A layer of zeros: nothing comes through it, nor any gradient."""
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)


def kill_relus(model: nn.Sequential) -> None:
    """Biases so low that most channels of a layer are never active."""
    with torch.no_grad():
        model[2].bias[:12] = -100.0


def initialise_badly(model: nn.Sequential) -> None:
    """One layer far too large, the next far too small: signals of very different size, hardly a gradient."""
    with torch.no_grad():
        model[0].weight.mul_(30.0)
        model[2].weight.mul_(1e-6)
        model[6].weight.mul_(1e-6)


def freeze_two_layers(model: nn.Sequential) -> None:
    """As in transfer learning: what is frozen has no gradient and is no finding."""
    for parameter in model[:3].parameters():
        parameter.requires_grad_(False)


def never_die(model: nn.Sequential) -> None:
    """Leaky activations: a rate that is far too high cannot hide behind ReLUs that died of it first."""
    for place, layer in enumerate(model):
        if isinstance(layer, nn.ReLU):
            model[place] = nn.LeakyReLU(0.3)


HEALTHY = {
    "healthy (Adam)": Case(),
    "healthy (SGD)": Case(optimizer="sgd", rate=0.006),
    "healthy (two layers frozen)": Case(prepare=freeze_two_layers, rate=2e-3),
}
SICK = {
    "a layer of zeros": Case(rule="VanishingGradient", prepare=zero_middle_layer),
    "learning rate 1e3": Case(rule="ExplodingTensor", optimizer="sgd", rate=1e3, prepare=never_die),
    "dead ReLUs": Case(rule="DeadRelu", prepare=kill_relus),
    "initialised badly": Case(rule="PoorWeightInitialization", prepare=initialise_badly, optimizer="sgd", rate=1e-3),
    "learning rate 1e-9": Case(rule="LossNotDecreasing", rate=1e-9),
    "forty photos by heart": Case(rule="Overfit", photos=40, random_labels=True, rate=3e-3, epochs=6),
    "nothing to learn": Case(rule="Overtraining", random_labels=True, epochs=14, steps=10),
    "twenty to one": Case(rule="ClassImbalance", shares=(20.0, 20.0, 1.0)),
    "two classes alike": Case(rule="Confusion", same_classes=True),
    "Adam at rate 10": Case(rule="WeightUpdateRatio", rate=10.0),
    "inputs not normalised": Case(rule="CheckInputImages", offset=0.5),
    "a loader that sleeps": Case(
        rule="StalledTraining", sleep=1.2, rules=load_rules() | {"StalledTraining": StalledTraining(threshold=1.0)}
    ),
}


def fired(case: Case, seed: int, folder: Path) -> set[str]:
    """Trains once and tells which rules fired."""
    torch.manual_seed(seed)
    luck = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, 3, SIDE, SIDE, generator=luck)
    if case.same_classes:
        patterns[2] = patterns[1]
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * 16, 32), nn.ReLU(), nn.Linear(32, CLASSES)),
    )
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    nn.init.normal_(model[8].weight, std=0.05)
    case.prepare(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(trained, lr=case.rate, momentum=0.9)
        if case.optimizer == "sgd"
        else torch.optim.Adam(trained, lr=case.rate)
    )
    draw = _draws(case, patterns, luck)
    fixed = next(draw(case.photos)) if case.photos else None
    held_out = next(draw(VALIDATION))
    recorder = Recorder(model, folder, every=5)
    step = 0
    for epoch in range(1, case.epochs + 1):
        losses = []
        for _ in range(case.steps):
            step += 1
            photos, labels = fixed if fixed is not None else next(draw(BATCH))
            if case.sleep and step == 3:
                time.sleep(case.sleep)
            recorder.begin(step, photos, labels, CLASSES)
            loss = nn.functional.cross_entropy(model(photos), labels)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            recorder.after_backward(step)
            optimizer.step()
            recorder.after_step(step, epoch, losses[-1])
        with torch.no_grad():
            logits = model(held_out[0])
            validation = nn.functional.cross_entropy(logits, held_out[1]).item()
            places = held_out[1] * CLASSES + logits.argmax(1)
            confusion = torch.bincount(places, minlength=CLASSES**2).view(CLASSES, CLASSES)
        recorder.after_epoch(step, epoch, sum(losses) / len(losses), validation, confusion.tolist())
    found = judge(case.rules, recorder.history(finished=True))
    return {name for name, findings in found.items() if findings}


def _draws(case: Case, patterns: Tensor, luck: torch.Generator) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    shares = torch.tensor(case.shares)

    def draw(num: int) -> Iterator[tuple[Tensor, Tensor]]:
        labels = torch.multinomial(shares, num, replacement=True, generator=luck)
        noise = torch.randn(num, 3, SIDE, SIDE, generator=luck)
        photos = (case.signal * patterns[labels] + noise) / (1 + case.signal**2) ** 0.5 + case.offset
        if case.random_labels:
            labels = torch.randint(CLASSES, (num,), generator=luck)
        yield photos, labels

    return draw


def matrix(cases: dict[str, Case], seeds: int = SEEDS) -> Matrix:
    """Trains every case with every seed."""
    table: dict[str, dict[str, int]] = {}
    for name, case in cases.items():
        table[name] = dict.fromkeys(RULES, 0)
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                for rule in fired(case, seed, Path(folder)):
                    table[name][rule] += 1
    own = {name: case.rule for name, case in cases.items()}
    return Matrix(table=table, seeds=seeds, own=own, rules=list(RULES), short=SHORT)


def main() -> Matrix:
    """All cases, ten seeds."""
    torch.set_num_threads(1)
    return matrix(HEALTHY | SICK)
