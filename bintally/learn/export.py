"""A run becomes a model folder: ONNX, OpenVINO's own format and the card, checked against the trained model.

`model.onnx` is always float32, so that anyone with an ONNX runtime can run it. `openvino.xml` and `.bin` are what the
engine runs: float32 weights for float32 and for bfloat16 (which is how the runtime computes, said on the card: halving
the file would round the weights twice), 8-bit ones for int8.
"""

import contextlib
import dataclasses
import io
import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import nncf
import numpy as np
import onnx
import onnxruntime
import openvino
import openvino.properties.hint as hints
import torch
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from bintally import __version__, files, pixels
from bintally.calibration import fit_temperature
from bintally.card import CARD_FILE, Calibration, ModelCard, write_card
from bintally.cores import num_cores
from bintally.data.manifest import Manifest, Part, Row, read_manifest
from bintally.errors import ModelError, UnreadablePhotoError
from bintally.learn.agreement import Agreement, Limits, Logits, breaches, compare
from bintally.learn.model import CountModel, load_run_model
from bintally.learn.run import SPLIT_FILE
from bintally.progress import Progress

ONNX_FILE, XML_FILE, BIN_FILE = "model.onnx", "openvino.xml", "openvino.bin"

OPSET = 18
"""Of `model.onnx`; what ONNX Runtime 1.14 (2023) and later read."""

Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """What to export, and how far it may differ from the trained model.

    Attributes:
        precision: what the OpenVINO model computes in.
        num_check: validation photos on which the models are compared; where there are none, as after a refit, calibration
            photos, and else training photos.
        num_quantise: training photos that int8's ranges are taken from.
        num_calibrate: at most so many calibration photos for a temperature of the exported model's own.
        float32: limits for float32, of `model.onnx` as well as of the OpenVINO model.
        bfloat16: limits for bfloat16.
        int8: limits for int8.
        seed: which photos are drawn.
    """

    precision: Precision = "float32"
    num_check: Annotated[int, Field(ge=1)] = 500
    num_quantise: Annotated[int, Field(ge=1)] = 300
    num_calibrate: Annotated[int, Field(ge=1)] = 2000
    float32: Limits = field(default_factory=lambda: Limits(difference=1e-4))
    bfloat16: Limits = field(default_factory=lambda: Limits(changed=0.03, loss=0.01))
    int8: Limits = field(default_factory=lambda: Limits(changed=0.10, loss=0.03))
    seed: int = 0


def export(
    run: Path,
    to: Path,
    settings: ExportSettings,
    progress: Progress,
    *,
    accept: bool = False,
    force: bool = False,
) -> ModelCard:
    """Writes a run's best weights as a model folder.

    The temperature is the run's own, for the check and for the card. A model in int8 has its own, fitted on the
    calibration part, and so has one whose run was never evaluated; without calibration photos it stays as it is.

    Args:
        run: what `bintally train` wrote.
        to: the model folder to make. It appears at the end, whole, or not at all.
        settings: precision and limits.
        progress: who listens.
        accept: write a model that differs more than the limits allow, with a note of it on the card.
        force: replace what is at `to`, provided that it is a model folder.

    Returns:
        The card.

    Raises:
        ModelError: the run holds no model, `to` exists, or the exported model does not agree with the trained one.
        ManifestError: the run's split is missing or damaged.
        DiskFullError: there is no room.
    """
    _check_target(to, force=force)
    model, card = load_run_model(run)
    photos = _Photos(read_manifest(run / SPLIT_FILE), card, settings.seed, progress)
    for checked_on in _CHECKED_ON:
        shown = photos.take(checked_on, settings.num_check, f"decode {checked_on} photos")
        if len(shown.classes):
            break
    else:
        raise ModelError(f"{run} has no photos that can be read: the exported model cannot be checked")
    with files.replacing_folder(to) as part:
        progress.message(f"writing {ONNX_FILE}")
        _write_onnx(part / ONNX_FILE, model, card)
        runner = openvino.Core().read_model(part / ONNX_FILE)
        if settings.precision == "int8":
            seen = photos.take("train", settings.num_quantise, "decode training photos")
            if not len(seen.classes):
                raise ModelError(f"{run} has no training photos that can be read: int8 needs them for its ranges")
            progress.message(f"quantising with {len(seen.classes):,} training photos")
            # Converted, and not only read: batch norms are in the convolutions then, as they are when it runs.
            runner = _quantise(openvino.convert_model(part / ONNX_FILE), seen.squares, card)
        openvino.save_model(runner, part / XML_FILE, compress_to_fp16=False)
        compiled = _Compiled(part / XML_FILE, card, settings.precision, progress)

        trained = _torch_logits(model, shown.squares, card, progress)
        exported = compiled.logits(shown.squares, "ask the exported model")
        calibration, notes = card.calibration, list(card.notes)
        if settings.precision == "int8" or calibration is None:
            held_out = photos.take("calibration", settings.num_calibrate, "decode calibration photos")
            if len(held_out.classes):
                logits = compiled.logits(held_out.squares, "fit the temperature")
                fitted = fit_temperature(logits.astype(np.float64), held_out.classes)
                calibration = Calibration(temperature=fitted, num_photos=len(held_out.classes))
            else:
                notes.append("no calibration photos: the temperature was not fitted on this model")
        before = card.calibration or calibration or Calibration()
        after = calibration or Calibration()

        agreements = {
            "openvino": compare(
                trained,
                exported,
                shown.classes,
                temperature=before.temperature,
                exported_temperature=after.temperature,
            ),
            "onnx": compare(
                trained,
                _onnx_logits(part / ONNX_FILE, shown.squares, card, progress),
                shown.classes,
                temperature=before.temperature,
            ),
        }
        limits: Limits = getattr(settings, settings.precision)
        broken = breaches(agreements["openvino"], limits, f"{settings.precision} in OpenVINO")
        broken += breaches(agreements["onnx"], settings.float32, f"{ONNX_FILE} in ONNX Runtime")
        if broken and not accept:
            raise ModelError(
                f"the exported model does not agree with {run}: {'; '.join(broken)}. Nothing was written; "
                "--accept writes it all the same, with this on its card"
            )
        done = dataclasses.replace(
            card,
            kind="exported",
            precision=settings.precision,
            calibration=calibration,
            metrics={**card.metrics, "export": _metrics(agreements, card, checked_on)},
            files={name: files.sha256_of(part / name) for name in (ONNX_FILE, XML_FILE, BIN_FILE)},
            code_version=__version__,
            notes=(*notes, *(f"accepted: {line}" for line in broken)),
        )
        write_card(part, done)
    return done


_CHECKED_ON: tuple[Part, ...] = ("validation", "calibration", "train")
"""The parts on which the models are compared: the first one that has photos. Nothing is scored, so any photos will do."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    squares: NDArray[np.uint8]  # (n, size, size, 3)
    classes: NDArray[np.int64]  # (n,)


@dataclass(frozen=True, slots=True)
class _Photos:
    """Draws labelled photos of a part within the counter's range; those that cannot be read are left out."""

    manifest: Manifest
    card: ModelCard
    seed: int
    progress: Progress

    def take(self, part: Part, most: int, task: str) -> _Drawn:
        rows = [(row, self._class_of(row)) for row in self.manifest.of_part(part)]
        known = [(row, k) for row, k in rows if k is not None]
        order = np.random.default_rng(self.seed).permutation(len(known))[:most]
        chosen = [known[place] for place in sorted(order)]
        squares, classes = [], []
        self.progress.begin(task, len(chosen))
        try:
            with ThreadPoolExecutor(num_cores()) as pool:
                for square, (_, k) in zip(pool.map(self._read, (row for row, _ in chosen)), chosen, strict=True):
                    if square is not None:
                        squares.append(square)
                        classes.append(k)
                    self.progress.advance()
        finally:
            self.progress.end()
        side = self.card.pixels.size
        empty = np.empty((0, side, side, 3), dtype=np.uint8)
        return _Drawn(squares=np.stack(squares) if squares else empty, classes=np.array(classes, dtype=np.int64))

    def _class_of(self, row: Row) -> int | None:
        return None if row.label is None else self.card.counts.class_of(row.label)

    def _read(self, row: Row) -> NDArray[np.uint8] | None:
        try:
            return pixels.read_square(self.manifest.path_of(row).read_bytes(), self.card.pixels)
        except (OSError, UnreadablePhotoError):
            return None  # the fewer photos stand on the card


class _WithMaps(nn.Module):
    def __init__(self, model: CountModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.forward_maps(photos)


def _write_onnx(path: Path, model: CountModel, card: ModelCard) -> None:
    side = card.pixels.size
    with _quiet():
        program = torch.onnx.export(
            _WithMaps(model).eval(),
            (torch.zeros(2, 3, side, side),),
            input_names=["photos"],
            output_names=["logits", "maps"],
            dynamic_shapes={"photos": {0: torch.export.Dim("batch", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch made no ONNX program of this model")
    proto = program.model_proto
    # The exporter notes where in which file each node comes from: of no use elsewhere, and it names local paths.
    del proto.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        del value.metadata_props[:]
    facts = {"architecture": card.architecture, "counts": str(card.counts), "licence": card.licence}
    onnx.helper.set_model_props(proto, facts)
    proto.producer_name, proto.producer_version = "bintally", __version__
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _quantise(model: Any, squares: NDArray[np.uint8], card: ModelCard) -> Any:
    # What follows the last feature map stays as it is: it costs next to nothing, and both outputs are read off it.
    head = {name for output in model.outputs for name in _above(output.node)}
    # And so does what brings photos to another size: eight bits on top of theirs would blur them.
    sizes = {name for node in model.inputs for name in _below(node.node)}
    photos = [pixels.normalise(squares[place : place + 1], card.pixels) for place in range(len(squares))]
    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(photos),
            subset_size=len(photos),
            preset=nncf.QuantizationPreset.MIXED,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # Ranges from the least and largest values follow a few photos' outliers: docs/experiments.md, section 16.
                activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM,
            ),
            ignored_scope=nncf.IgnoredScope(names=sorted(head | sizes)),
        )


def _above(result: Any) -> list[str]:
    """The names of the nodes from an output back to where it takes up the feature map."""
    names, waiting = [], [result]
    while waiting:
        node = waiting.pop()
        if node.get_type_name() in {"ReduceMean", "Convolution", "Parameter"}:
            continue
        for value in node.input_values():
            above = value.get_node()
            name = str(above.get_friendly_name())
            if above.get_type_name() != "Constant" and name not in names:
                names.append(name)
                waiting.append(above)
    return names


def _below(parameter: Any) -> list[str]:
    """The names of the products of matrices between an input and the first convolutions."""
    names, seen, waiting = [], set(), [parameter]
    while waiting:
        for value in waiting.pop().outputs():
            for target in value.get_target_inputs():
                node = target.get_node()
                name = str(node.get_friendly_name())
                if node.get_type_name() == "Convolution" or name in seen:
                    continue
                seen.add(name)
                waiting.append(node)
                if node.get_type_name() == "MatMul":
                    names.append(name)
    return names


class _Compiled:
    """The OpenVINO model as the engine will run it: the same precision hint."""

    def __init__(self, path: Path, card: ModelCard, precision: Precision, progress: Progress) -> None:
        self._spec, self._progress = card.pixels, progress
        hint = openvino.Type.bf16 if precision == "bfloat16" else openvino.Type.f32
        self._model = openvino.Core().compile_model(path, "CPU", {hints.inference_precision(): hint})

    def logits(self, squares: NDArray[np.uint8], task: str) -> Logits:
        return _batched(
            lambda x: self._model({"photos": x})["logits"].copy(), squares, self._spec, task, self._progress
        )


def _torch_logits(model: CountModel, squares: NDArray[np.uint8], card: ModelCard, progress: Progress) -> Logits:
    def ask(x: NDArray[np.float32]) -> Logits:
        with torch.inference_mode():
            logits: Logits = model(torch.from_numpy(x)).numpy()
        return logits

    return _batched(ask, squares, card.pixels, "ask the trained model", progress)


def _onnx_logits(path: Path, squares: NDArray[np.uint8], card: ModelCard, progress: Progress) -> Logits:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return _batched(
        lambda x: session.run(["logits"], {"photos": x})[0], squares, card.pixels, f"ask {ONNX_FILE}", progress
    )


def _batched(ask: Any, squares: NDArray[np.uint8], spec: pixels.PixelSpec, task: str, progress: Progress) -> Logits:
    answers: list[Logits] = []
    progress.begin(task, len(squares))
    try:
        for start in range(0, len(squares), _BATCH):
            batch = squares[start : start + _BATCH]
            answers.append(np.asarray(ask(pixels.normalise(batch, spec)), dtype=np.float32))
            progress.advance(len(batch))
    finally:
        progress.end()
    return np.concatenate(answers)


_BATCH = 16


def _metrics(agreements: dict[str, Agreement], card: ModelCard, part: Part) -> dict[str, Any]:
    told: dict[str, Any] = {name: one.as_metrics() for name, one in agreements.items()}
    return told | {"run": card.model_id, "part": part}


def _check_target(to: Path, *, force: bool) -> None:
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return
    if not force:
        raise ModelError(f"{to} exists: name another folder with --to, or replace it with --force")
    if not (to / CARD_FILE).is_file() or not (to / ONNX_FILE).is_file():
        raise ModelError(f"{to} is no model folder: --force replaces only those; name another folder with --to")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # torch's exporter warns of what is not installed and of its own deprecations; NNCF draws bars on standard output.
    logs = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "nncf", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
