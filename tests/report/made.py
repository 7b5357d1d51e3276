"""Material of a run to which everything was done, and of one that was only trained, as the stages write it."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from bintally.card import ModelCard, write_card
from bintally.counts import CountRange
from bintally.pixels import PixelSpec
from bintally.report.gather import Material, gather
from tests.report import test_curves, test_evaluation, test_profile, test_summary, test_tune, test_watch

ABOUT = {
    "status": "finished",
    "code_version": "0.1.0",
    "settings": {
        "model": {"backbone": "weights/resnet-50", "unfrozen_stages": 1, "dropout": 0.25},
        "train": {
            "epochs": 3,
            "batch_size": 32,
            "optimizer": "adamw",
            "head_lr": 0.001,
            "backbone_lr": 0.0001,
            "weight_decay": 0.05,
            "label_smoothing": 0.1,
            "schedule": "cosine",
            "loss": "cross-entropy",
            "sampling": "none",
            "class_weights": "root",
            "patience": 3,
            "seed": 7,
            "workers": 5,
        },
        "augment": {"flip": 0.5, "shift": 0.0},
        "pixels": {"size": 96, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    },
    "manifest": {"digest": "d" * 64, "root": "/bins"},
    "device": "cpu",
    "precision": "bf16-mixed",
    "photos": {"train": 1200, "validation": 300},
    "best_epoch": 2,
    "epochs": 3,
    "seconds": 250.0,
    "why": "",
}


def photo(name: str) -> bytes | None:
    """A picture for any id but "gone"."""
    if name == "gone":
        return None
    out = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 180, 60)).save(out, "JPEG")
    return out.getvalue()


def trained(run: Path, **about: Any) -> Path:
    """A folder in which nothing but training happened."""
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(ABOUT | about), encoding="utf-8")
    (run / "history.csv").write_text(test_curves.HEAD + test_curves.ROWS, encoding="utf-8")
    write_card(run, ModelCard(architecture="resnet-50 + linear head", pixels=PixelSpec(size=96), counts=CountRange()))
    return run


def everything(run: Path, **evaluation: Any) -> Path:
    """A folder of a run to which everything was done."""
    trained(run)
    found = test_evaluation.evaluated(run) | evaluation
    right = found["worst"][0] | {"label": 4, "likeliest": 4, "right": True, "photo_id": "00003"}
    found |= {"right": [right], "sample": [right, *found["worst"]]}
    (run / "evaluation").mkdir()
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    watch = run / "watch"
    watch.mkdir()
    for name, verdict in {
        "DeadRelu": test_watch.verdict([test_watch.FINDING] * 20),
        "Overfit": test_watch.verdict([]),
    }.items():
        (watch / f"{name}.json").write_text(json.dumps(verdict), encoding="utf-8")
    checks = [test_watch.check(1, 0.1), test_watch.check(3, None)]
    (watch / "checks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in checks), encoding="utf-8")
    (run / "profile").mkdir()
    (run / "profile" / "profile.json").write_text(json.dumps(test_profile.found()), encoding="utf-8")
    (run / "tune").mkdir()
    (run / "tune" / "tune.json").write_text(json.dumps(test_tune.found(seconds=600.0)), encoding="utf-8")
    rows = [",".join(test_tune.ROWS[0]), *(",".join(row.values()) for row in test_tune.ROWS)]
    (run / "tune" / "trials.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return run


def whole(folder: Path, **evaluation: Any) -> Material:
    """The material of a run to which everything was done."""
    return gather(everything(folder / "run", **evaluation), data=test_summary.summarised(), read_photo=photo)


def bare(folder: Path, **about: Any) -> Material:
    """The material of a run that was only trained, of which nothing else is at hand."""
    return gather(trained(folder / "run", **about))


def text_of(section: Any) -> str:
    """All words of a section or document, as they stand in its blocks."""
    if isinstance(section, str):
        return section
    if isinstance(section, tuple | list):
        return "\n".join(text_of(one) for one in section)
    names = getattr(section, "__dataclass_fields__", ())
    return "\n".join(text_of(getattr(section, name)) for name in names)
