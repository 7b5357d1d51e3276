"""One ResNet50 for the serving benchmarks: as a run, and exported in float32 and int8.

`BINTALLY_BENCH_RUN` names a run of `bintally train`; without it the pretrained backbone gets a head of random weights,
which computes as long. `BINTALLY_BENCH_MODELS` keeps what was exported for the next time.
"""

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks._real import backbone, some_photos
from bintally.progress import Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Folders: the run (float32, torch), and two exported models of it."""

    run: Path
    float32: Path
    int8: Path


def models() -> Models:
    """The run and its exports, made when they are not there yet."""
    from bintally.learn.export import ExportSettings, export

    kept = os.environ.get("BINTALLY_BENCH_MODELS")
    folder = Path(kept or _passing())
    given = os.environ.get("BINTALLY_BENCH_RUN")
    run = Path(given) if given else folder / "run"
    if not (run / "model.json").exists():
        _make_run(run, folder / "photos")
    for precision in ("float32", "int8"):
        if not (folder / precision / "model.json").exists():
            # Random heads change their minds easily: the agreement is export's own matter, and tested there.
            settings = ExportSettings(precision=precision, num_check=64, num_quantise=100, num_calibrate=64)
            export(run, folder / precision, settings, Silent(), accept=True)
    return Models(run=run, float32=folder / "float32", int8=folder / "int8")


def _passing() -> str:
    made = tempfile.mkdtemp(prefix="bintally-bench-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _make_run(run: Path, photos: Path) -> None:
    import torch

    from bintally.card import ModelCard
    from bintally.data.manifest import write_manifest
    from bintally.learn.model import ModelSettings, build_model
    from bintally.learn.run import SPLIT_FILE, save_best
    from bintally.pixels import PixelSpec

    torch.manual_seed(0)
    manifest = some_photos(photos, 400)
    if manifest.split is None:
        raise RuntimeError("some_photos splits what it copies")
    run.mkdir(parents=True, exist_ok=True)
    write_manifest(run / SPLIT_FILE, manifest)
    model = build_model(ModelSettings(backbone=backbone()), manifest.split.counts)
    card = ModelCard(architecture="ResNet50, random head", pixels=PixelSpec(), counts=manifest.split.counts)
    save_best(run, model.state_dict(), model.backbone.config.to_dict(), card)
