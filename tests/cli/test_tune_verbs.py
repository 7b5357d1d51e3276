"""`bintally tune` and `bintally compare`, as a person or a script calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from bintally.bins import BinPhoto
from bintally.cli.app import app
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, Part, Row, SplitInfo, write_manifest
from bintally.errors import RunError, SettingsError
from bintally.files import sha256_of


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split over 60 photos of squares, a small backbone to freeze, a recipe and a space."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("work")
    luck = np.random.default_rng(0)
    parts: tuple[Part, ...] = ("train", "train", "train", "validation", "calibration", "test")
    rows = []
    for index in range(60):
        name = f"bin-images/{index:05d}.jpg"
        image = Image.fromarray(luck.integers(60, 110, (32, 32, 3)).astype(np.uint8))
        for _ in range(index % 4):
            x, y = luck.uniform(0, 24, 2)
            ImageDraw.Draw(image).rectangle((x, y, x + 6, y + 6), fill=(240, 230, 220))
        (folder / "bin-images").mkdir(exist_ok=True)
        image.save(folder / name)
        photo = BinPhoto(photo_id=f"{index:05d}", uri=name, sha256=sha256_of(folder / name), width=32, height=32)
        rows.append(
            Row(
                photo=photo,
                num_bytes=(folder / name).stat().st_size,
                blur=1.0,
                look="0" * 16,
                record=None,
                expected_quantity=index % 4,
                label=index % 4,
                label_source="record",
                group=photo.photo_id,
                part=parts[luck.integers(6)],
            )
        )
    info = SplitInfo(counts=CountRange(), seed=0, fractions=(0.5, 0.2, 0.15, 0.15), shuffled=False)
    write_manifest(folder / "split.parquet", Manifest(root=folder, rows=tuple(rows), split=info))
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", hidden_act="relu"
    )
    transformers.ResNetModel(config).save_pretrained(folder / "backbone")
    (folder / "mine.toml").write_text(
        f'[model]\nbackbone = "{folder}/backbone"\n[train]\nepochs = 3\nbatch_size = 8\nprecision = "32-true"\n'
        f'[pixels]\nsize = 32\n[keep]\nfolder = "{folder}/kept"\n'
    )
    (folder / "mine.space.toml").write_text("[train]\nhead_lr = { low = 1e-4, high = 0.1, log = true }\n")
    return folder


def test_tuned_trained_evaluated_compared(work: Path, tmp_path: Path) -> None:
    to = tmp_path / "tuned"
    flags = ("--to", to, "--trials", 4, "--repeat", 2, "--top", 1, "--pruner", "none", "--set", "train.epochs=2")
    said = run("tune", work / "mine.toml", work, *flags)
    assert "the best of the trials (4 complete)" in said
    assert "--recipe" in said
    assert "<figcaption>Slice: nll by train.head_lr" in (to / "trials.html").read_text()
    best = (to / "best.toml").read_text()
    assert "epochs = 2" in best  # what was set on the command line belongs to the recipe that was tuned
    again = json.loads(run("tune", work / "mine.toml", work, *flags, "--json"))
    assert again["states"] == {"complete": 4}

    for name, recipe in (("a", to / "best.toml"), ("b", work / "mine.toml")):
        run("train", work, "--recipe", recipe, "--to", tmp_path / name)
        run("evaluate", tmp_path / name, "--set", "evaluate.resamples=100", "--set", "evaluate.simulations=100")
    table = run("compare", tmp_path / "a", tmp_path / "b", "--set", "compare.resamples=200")
    assert "negative log-likelihood" in table
    assert "95% interval" in table
    found = json.loads(run("compare", tmp_path / "a", tmp_path / "b", "--json"))
    assert found["part"] == "test"
    assert found["num_photos"] > 0
    assert found["figures"]["nll"]["low"] <= found["figures"]["nll"]["difference"]


def test_no_space_names_those_there_are(work: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"there is no search space 'demo\.space\.toml': take --space seed, seed-wide"
    ):
        run("tune", "demo", work, "--to", tmp_path / "t")


def test_shipped_spaces_fit_the_recipe_seed() -> None:
    from bintally.cli.tune import find_space
    from bintally.learn.recipe import read_recipe, recipe_names
    from bintally.learn.tune import check_space

    for name in ("seed", "seed-wide"):
        check_space(read_recipe("seed", environ={}), find_space(name, "seed"))
    assert all("space" not in name for name in recipe_names())


def test_a_run_that_was_not_evaluated_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="run `bintally evaluate"):
        run("compare", tmp_path, tmp_path)


def test_an_unknown_wish_is_an_error(work: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tune\.sampler"):
        run("tune", work / "mine.toml", work, "--to", tmp_path / "t", "--sampler", "magic")
