"""A run as a counter: what is its own; tests/contract/test_counters.py holds what all counters keep."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from bintally.card import read_card, write_card
from bintally.counts import Unreadable
from bintally.data.manifest import Manifest
from bintally.errors import ModelError, SettingsError
from bintally.learn.counter import TrainedCounter
from bintally.learn.model import load_run_model
from bintally.learn.recipe import Recipe
from bintally.learn.train import train
from bintally.pixels import read_input, read_square


@pytest.fixture
def run(make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path) -> Path:
    train(make_manifest(num=20), tmp_path / "run", tiny(epochs=1))
    return tmp_path / "run"


def test_logits_are_those_of_the_network_on_the_one_preprocessing(run: Path, tmp_path: Path) -> None:
    photos = [path.read_bytes() for path in sorted((tmp_path / "photos" / "bin-images").iterdir())]
    model, card = load_run_model(run)
    with torch.no_grad():
        expected = model(torch.from_numpy(np.stack([read_input(one, card.pixels) for one in photos]))).numpy()
    counter = TrainedCounter.load(run, batch_size=3, device="cpu")
    found = counter.logits([*photos[:5], b"broken", *photos[5:]])
    assert isinstance(found.pop(5), Unreadable)
    assert np.abs(np.stack(found) - expected).max() < 1e-5  # type: ignore[arg-type]
    assert found[0].dtype == np.float32  # type: ignore[union-attr]
    assert counter.count(photos)[0].probabilities == pytest.approx(  # type: ignore[union-attr]
        (np.exp(expected[0]) / np.exp(expected[0]).sum()).tolist(), abs=1e-5
    )


def test_a_validation_figure_of_the_training_is_what_the_counter_says(
    make_manifest: Callable[..., Manifest], tiny: Callable[..., Recipe], tmp_path: Path
) -> None:
    manifest = make_manifest(num=40)
    card = train(manifest, tmp_path / "run", tiny(epochs=2)).card
    rows = manifest.of_part("validation")
    answers = TrainedCounter.load(tmp_path / "run").count([manifest.path_of(row).read_bytes() for row in rows])
    losses = [-np.log(one.probabilities[row.label]) for one, row in zip(answers, rows, strict=True)]  # type: ignore
    assert np.mean(losses) == pytest.approx(card.metrics["validation"]["nll"], abs=1e-4)


def test_a_mirroring_counter_does_not_mind_being_shown_the_mirror_image(run: Path, tmp_path: Path) -> None:
    write_card(run, dataclasses.replace(read_card(run), mirror=True))
    counter = TrainedCounter.load(run, device="cpu")
    path = next((tmp_path / "photos" / "bin-images").iterdir())
    square = Image.open(path)
    views = []
    for image in (square, ImageOps.mirror(square)):
        out = io.BytesIO()
        image.save(out, "PNG")
        views.append(out.getvalue())
    one, other = counter.logits(views)
    np.testing.assert_allclose(one, other, atol=1e-5)  # type: ignore[arg-type]
    assert counter.model_id != dataclasses.replace(counter.card, mirror=False).model_id


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        TrainedCounter.load(tmp_path)
    with pytest.raises(SettingsError, match="unknown device"):
        TrainedCounter.load(run, device="tpu")
    with pytest.raises(SettingsError, match="at least one photo"):
        TrainedCounter.load(run, batch_size=0)
    write_card(run, dataclasses.replace(read_card(run), kind="exported"))
    with pytest.raises(ModelError, match="exported model"):
        TrainedCounter.load(run)


def test_maps_come_with_the_logits_that_it_answers_with(run: Path, tmp_path: Path) -> None:
    paths = sorted((tmp_path / "photos" / "bin-images").iterdir())[:3]
    counter = TrainedCounter.load(run, device="cpu")
    squares = np.stack([read_square(path.read_bytes(), counter.card.pixels) for path in paths])
    logits, maps = counter.maps(squares)
    assert np.abs(logits - np.stack(counter.logits([path.read_bytes() for path in paths]))).max() < 1e-5  # type: ignore[arg-type]
    assert maps.shape[:2] == logits.shape
    # A linear head: what the places say on average, and the bias, which is the same for every photo, is the logit.
    bias = logits - maps.mean(axis=(2, 3))
    assert np.abs(bias - bias[0]).max() < 1e-4
