"""Watching a training: what is read from it every few steps, and what the debug rules say of that.

A `Recorder` hangs on a model while it trains and appends what it reads to `RUN/watch/`; the rules judge those records,
while the training runs or long after it, with any thresholds. Frozen layers are not read: they cannot go wrong.
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from bintally import files, settings
from bintally.errors import RunError, SettingsError
from bintally.learn.history import Check, Finding, History, Rule, Validation
from bintally.learn.listen import Listener, Start
from bintally.learn.readings import change, fetched, finite, measured, stats_of
from bintally.learn.rules import RULES, RuleName
from bintally.learn.run import read_run

FOLDER = "watch"
CHECKS_FILE = "checks.jsonl"
VALIDATIONS_FILE = "validations.jsonl"
_ACTIVE_SHARE = 0.01
_INPUT_PHOTOS = 2_000
_LABEL_BATCHES = 256

_CHECK: TypeAdapter[Check] = TypeAdapter(Check)
_VALIDATION: TypeAdapter[Validation] = TypeAdapter(Validation)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """How a training is watched.

    Attributes:
        every: read gradients, weights and activations every so many steps.
        stop_on: rules that stop the run at their first finding.
    """

    every: Annotated[int, Field(ge=1)] = 50
    stop_on: tuple[RuleName, ...] = ()


class Recorder:
    """Reads a model while it trains. The training loop calls it at five points of a step, and at an epoch's end.

    Args:
        model: the model that is trained, unwrapped. Hooks hang on it only during a step that is read.
        folder: where the records go; `RUN/watch`.
        every: read a step of so many. The first one is always read.
        done: training steps that were done when this process began: records of later ones, left by a run that was
            killed after its last checkpoint, are dropped.
    """

    def __init__(self, model: nn.Module, folder: Path, *, every: int = 50, done: int = 0) -> None:
        self._model = model
        self._every = every
        self._folder = folder
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._before: dict[str, Tensor] = {}
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad and p.ndim > 1}
        self._layers = _trained_layers(model)
        self._relus = _trained_relus(model)
        self._last = time.monotonic()
        self._photos = 0
        self._reset()
        folder.mkdir(parents=True, exist_ok=True)
        kept = read_history(folder)
        self.checks = [check for check in kept.checks if check.step <= done]
        self.validations = [one for one in kept.validations if one.step <= done]
        for name, records in ((CHECKS_FILE, self.checks), (VALIDATIONS_FILE, self.validations)):
            if (folder / name).exists():
                files.write_text(folder / name, _lines(records))
            else:
                (folder / name).touch()

    def _reset(self) -> None:
        # What was measured stays on the device until the check is written: fetching it would wait for the device.
        self._losses: list[float] = []
        self._seconds = 0.0
        self._gradients: dict[str, Tensor] = {}
        self._activations: dict[str, Tensor] = {}
        self._relu_inputs: dict[str, Tensor] = {}
        self._dead: dict[str, Tensor] = {}
        self._input_sum: float | Tensor = 0.0
        self._input_values, self._input_photos = 0, 0
        self._labels: list[Tensor] = []
        self._num_classes = 0

    def reads(self, step: int) -> bool:
        """Whether the step of this number (from 1) is read in full; one whose loss is not finite is read, too."""
        return step == 1 or step % self._every == 0

    def told_inputs(self, mean: float, photos: int) -> None:
        """The mean of all normalised training photos, where training takes activations of them that were kept."""
        self._input_sum, self._input_values, self._input_photos = mean * photos, photos, photos

    def begin(self, step: int, photos: Tensor | None, labels: Tensor, num_classes: int) -> None:
        """Before the forward pass.

        Args:
            step: the number of the step that begins, from 1.
            photos: normalised photos (N, 3, H, W); None when training from kept activations.
            labels: class indices (N,).
            num_classes: how many classes there are.
        """
        now = time.monotonic()
        self._seconds = max(self._seconds, now - self._last)
        self._last = now
        self._labels.append(labels.detach())
        self._num_classes = num_classes
        if len(self._labels) == _LABEL_BATCHES:
            self._labels = [torch.cat(self._labels)]
        if photos is not None and self._photos < _INPUT_PHOTOS:
            self._input_sum = self._input_sum + photos.detach().sum(dtype=torch.float64)
            self._input_values += photos.numel()
            self._input_photos += len(photos)
            self._photos += len(photos)
        if self.reads(step):
            for name, module in self._layers.items():
                self._hooks.append(module.register_forward_hook(self._layer_hook(name)))
            for name, module in self._relus.items():
                self._hooks.append(module.register_forward_hook(self._relu_hook(name)))

    def after_backward(self, step: int) -> None:
        """Between the backward pass and the optimizer's step: gradients are there, weights are as they were."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self.reads(step):
            grads = {name: p.grad for name, p in self._trained.items() if p.grad is not None}
            self._gradients = {name: measured(grad, spread=True) for name, grad in grads.items()}
            # What has no gradient (a layer that this forward pass did not use) is not changed, and that is no finding.
            self._before = {name: self._trained[name].detach().clone() for name in grads}

    def after_step(self, step: int, epoch: int, loss: float) -> Check | None:
        """After the optimizer's step. Gives the check, and has written it, when this step was read."""
        self._losses.append(loss)
        if not self.reads(step) and math.isfinite(loss):
            return None
        mean = sum(self._losses) / len(self._losses)
        updates = {name: change(before, self._trained[name]) for name, before in self._before.items()}
        check = Check(
            step=step,
            epoch=epoch,
            loss=finite(loss),
            mean_loss=finite(mean),
            seconds=self._seconds,
            gradients=stats_of(self._gradients),
            weights=stats_of({name: measured(p) for name, p in self._trained.items()}),
            updates={name: finite(ratio) for name, [ratio] in fetched(updates).items()},
            activations=stats_of(self._activations),
            relu_inputs=stats_of(self._relu_inputs),
            dead_relus={name: share for name, [share] in fetched(self._dead).items()},
            input_sum=finite(float(self._input_sum)) or 0.0,
            input_values=self._input_values,
            input_photos=self._input_photos,
            labels=self._label_counts(),
        )
        self._before = {}
        self._reset()
        self.checks.append(check)
        _append(self._folder / CHECKS_FILE, check)
        return check

    def after_epoch(
        self, step: int, epoch: int, train_loss: float, loss: float, confusion: Iterable[Iterable[int]]
    ) -> None:
        """After the validation at an epoch's end. Losses are plain mean cross-entropies."""
        one = Validation(
            step=step,
            epoch=epoch,
            train_loss=finite(train_loss),
            loss=finite(loss),
            confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        )
        self.validations.append(one)
        _append(self._folder / VALIDATIONS_FILE, one)
        self._last = time.monotonic()  # validation is no stall

    def history(self, *, finished: bool = False) -> History:
        """Everything recorded so far."""
        return History(checks=tuple(self.checks), validations=tuple(self.validations), finished=finished)

    def _label_counts(self) -> tuple[int, ...]:
        if not self._labels:
            return ()
        return tuple(torch.bincount(torch.cat(self._labels).cpu(), minlength=self._num_classes).tolist())

    def _layer_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                self._activations[name] = measured(output)

        return hook

    def _relu_hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # An in-place ReLU has overwritten its input: then its output's statistics stand for it.
            self._relu_inputs[name] = measured(inputs[0])
            places = [axis for axis in range(output.ndim) if axis != 1]
            active = (output.detach() > 0).float().mean(dim=places)
            self._dead[name] = (active < _ACTIVE_SHARE).float().mean()

        return hook


class Watcher(Listener):
    """Follows a training with a recorder, and stops it when a rule says so.

    Args:
        settings: how often to read, and which rules stop the run.
        rules: the rules with their thresholds.
    """

    def __init__(self, settings: WatchSettings, rules: Mapping[str, Rule]) -> None:
        self._settings = settings
        self._rules: dict[str, Rule] = {name: rules[name] for name in settings.stop_on if name in rules}
        self._recorder: Recorder | None = None

    def on_start(self, start: Start) -> None:
        """Hangs a recorder on the model."""
        folder = start.run / FOLDER
        self._recorder = Recorder(start.model, folder, every=self._settings.every, done=start.done)
        self._num_classes = start.model.head.out_features
        if start.kept_inputs is not None and start.done == 0:
            self._recorder.told_inputs(*start.kept_inputs)

    def on_batch(self, step: int, photos: Tensor, classes: Tensor) -> None:
        """Reads inputs and labels. What has other than three channels are kept activations, no photos."""
        inputs = photos if photos.ndim == 4 and photos.shape[1] == 3 else None
        self._told.begin(step, inputs, classes, self._num_classes)

    def on_backward(self, step: int) -> None:
        """Reads the gradients."""
        self._told.after_backward(step)

    def on_step(self, step: int, epoch: int, loss: float) -> None:
        """Reads the weights.

        Raises:
            RunError: a rule of `stop_on` fired.
        """
        if self._told.after_step(step, epoch, loss) is not None:
            self._judge()

    def on_epoch(self, step: int, row: Mapping[str, Any], confusion: Any) -> None:
        """Notes losses and confusion.

        Raises:
            RunError: a rule of `stop_on` fired.
        """
        self._told.after_epoch(step, row["epoch"], row["train_nll"], row["validation_nll"], confusion)
        self._judge()

    def on_end(self) -> None:
        """Lets the model go."""
        self._recorder = None

    @property
    def _told(self) -> Recorder:
        if self._recorder is None:
            raise RuntimeError("a listener is told of the start first")
        return self._recorder

    def _judge(self) -> None:
        for name, found in judge(self._rules, self._told.history()).items():
            if found:
                last = found[-1]
                raise RunError(
                    f"{name} fired at step {last.step}: {last.where}: {last.message}. {self._rules[name].advice}"
                )


def load_rules(path: Path | None = None) -> dict[str, Rule]:
    """The rules with their thresholds: the familiar ones, or a TOML file's.

    A table per rule, a key per threshold, as in `[Overfit] ratio_threshold = 0.5`; `enabled = false` leaves a rule out.

    Raises:
        SettingsError: a table is no rule, or a key none of its thresholds.
    """
    return settings.fill_set(RULES, path)


def judge(rules: Mapping[str, Rule], history: History) -> dict[str, list[Finding]]:
    """What each rule finds in a history, in the rules' order."""
    return {name: list(rule.findings(history)) for name, rule in rules.items()}


def report(rules: Mapping[str, Rule], history: History) -> dict[str, dict[str, Any]]:
    """The verdicts as JSON-ready values, one entry a rule, in the shape that users of the managed debugger know.

    Returns:
        Rule name → `RuleTriggered` (1 or 0), `Violations` (findings), `Datapoints` (checks or epochs looked at),
        `RuleParameters` (text), `Details` (the findings, with layer, step, value and threshold; and the advice).
    """
    found = judge(rules, history)
    verdicts = {}
    for name, rule in rules.items():
        parameters = settings.as_dict(rule)
        looked = history.validations if name in _AT_EPOCHS else history.checks
        verdicts[name] = {
            "RuleTriggered": int(bool(found[name])),
            "Violations": len(found[name]),
            "Details": {"findings": [dataclasses.asdict(one) for one in found[name]], "advice": rule.advice},
            "Datapoints": len(looked),
            "RuleParameters": "\n".join(f"{key}:{value}" for key, value in parameters.items()),
        }
    return verdicts


_AT_EPOCHS = {"Overfit", "Overtraining", "Confusion"}


def write_report(folder: Path, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes `<Rule>.json` for each verdict into `folder`."""
    for name, verdict in verdicts.items():
        files.write_json(folder / f"{name}.json", verdict)


def read_history(folder: Path, *, finished: bool = False, idle: float = 0.0) -> History:
    """Reads what a recorder wrote into `RUN/watch`; nothing is an empty history.

    A last line that was cut short by a kill is left out.

    Raises:
        RunError: a record is damaged.
    """
    return History(
        checks=tuple(_read_lines(folder / CHECKS_FILE, _CHECK)),
        validations=tuple(_read_lines(folder / VALIDATIONS_FILE, _VALIDATION)),
        finished=finished,
        idle=idle,
    )


def read_run_history(run: Path) -> History:
    """The history of a run folder, with whether the run is over and how long ago its last step was.

    Raises:
        RunError: it is no run, was not watched, or a record is damaged.
    """
    about = read_run(run)
    status = "finished" if "refit" in about else about["status"]  # the second training is not watched
    folder = run / FOLDER
    if not (folder / CHECKS_FILE).exists():
        raise RunError(f"{run} was not watched: train with --watch")
    idle = time.time() - (folder / CHECKS_FILE).stat().st_mtime if status == "running" else 0.0
    return read_history(folder, finished=status == "finished", idle=idle)


def shipped_rules(name: str) -> Path:
    """The file of a set of thresholds: a path, or the name of one that is shipped, such as "counting".

    Raises:
        SettingsError: there is no such file.
    """
    if Path(name).suffix == ".toml" or "/" in name:
        return Path(name)
    folder = Path(__file__).parent.parent / "recipes" / "watch"
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise SettingsError(f"no rules are called {name!r}: known are {', '.join(known)}, or give a TOML file")
    return folder / f"{name}.toml"


def _trained_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Those with trained weights of their own, but for norms."""
    return {
        name: module
        for name, module in model.named_modules()
        if any(p.requires_grad and p.ndim > 1 for p in module.parameters(recurse=False))
    }


def _trained_relus(model: nn.Module) -> dict[str, nn.Module]:
    modules = dict(model.named_modules())
    found: dict[str, nn.Module] = {}
    for name, module in modules.items():
        parent = modules[name.rpartition(".")[0]]
        if isinstance(module, nn.ReLU) and any(p.requires_grad for p in parent.parameters()):
            found[name] = module
    return found


def _lines(records: Iterable[Check | Validation]) -> str:
    return "".join(json.dumps(dataclasses.asdict(one), allow_nan=False) + "\n" for one in records)


def _append(path: Path, record: Check | Validation) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(_lines([record]))


def _read_lines(path: Path, adapter: TypeAdapter[Any]) -> list[Any]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline was cut short
        try:
            records.append(adapter.validate_json(line))
        except ValidationError as error:
            raise RunError(f"{path} is damaged at line {number}: {error.errors()[0]['msg']}") from error
    return records
