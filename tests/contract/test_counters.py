"""What every counter keeps: one answer a photo, in order, the same in any company; the unreadable in their place."""

import dataclasses
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bintally.card import Calibration, ModelCard, read_card, write_card
from bintally.counts import Answer, CountDistribution, Counter, CountRange, Unreadable, distribution_of
from bintally.learn.counter import TrainedCounter
from bintally.learn.model import CountModel, ModelSettings, build_model
from bintally.learn.run import SPLIT_FILE, save_best
from bintally.pixels import PixelSpec, normalise, read_square

SIZE = 32
COUNTS = CountRange(lowest=1, highest=4, open_ended=True)
Load = Callable[[Path], Counter]


def photo(seed: int, *, side: int = 40) -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((side, side + 8)).save(out, "JPEG")
    return out.getvalue()


PHOTOS = [photo(seed) for seed in range(11)]
BROKEN = [b"", b"no photo", PHOTOS[0][:300], b"\xff\xd8\xff\xe0" + b"\0" * 64]


def network(seed: int) -> CountModel:
    """A small network, not trained, but with statistics and a head that tells photos apart."""
    torch.manual_seed(seed)
    model = build_model(ModelSettings(backbone="tiny"), COUNTS).train()
    batch = torch.from_numpy(normalise(np.stack([read_square(one, SIZE) for one in PHOTOS]), PixelSpec(size=SIZE)))
    with torch.no_grad():
        for _ in range(20):
            model(batch)
        model.head.weight.normal_(std=0.5)
    return model.eval()


def run_folder(folder: Path, seed: int) -> Path:
    model, config = network(seed), None
    config = model.backbone.config.to_dict()  # type: ignore[union-attr,operator]
    card = ModelCard(architecture="tiny", pixels=PixelSpec(size=SIZE), counts=COUNTS, open_mean=5.5)
    save_best(folder, model.state_dict(), config, card)
    write_card(folder, dataclasses.replace(read_card(folder), calibration=Calibration(temperature=1.7, num_photos=9)))
    return folder


def exported(folder: Path, seed: int) -> Path:
    from bintally.bins import BinPhoto
    from bintally.data.manifest import Manifest, Row, SplitInfo, write_manifest
    from bintally.learn.export import ExportSettings, export
    from bintally.progress import Silent

    run = run_folder(folder / "run", seed)
    rows = []
    for index, data in enumerate(PHOTOS):
        (folder / f"{index}.jpg").write_bytes(data)
        shot = BinPhoto(photo_id=str(index), uri=f"{index}.jpg", sha256="0" * 64, width=40, height=48)
        row = Row(
            photo=shot,
            num_bytes=len(data),
            blur=1.0,
            look="0" * 16,
            record=None,
            expected_quantity=1 + index % 4,
            label=1 + index % 4,
            label_source="record",
            group=str(index),
            part="validation",
        )
        rows.append(row)
    split = SplitInfo(counts=COUNTS, seed=0, fractions=(0.0, 1.0, 0.0, 0.0), shuffled=False)
    write_manifest(run / SPLIT_FILE, Manifest(root=folder, rows=tuple(rows), split=split))
    export(run, folder / "model", ExportSettings(num_check=4), Silent(), accept=True)
    return folder / "model"


def load_trained(folder: Path) -> Counter:
    return TrainedCounter.load(folder, batch_size=4, device="cpu")


def load_engine(folder: Path) -> Counter:
    from bintally.serve.engine import Engine, EngineSettings

    return Engine.load(folder, settings=EngineSettings(threads=1))


KINDS: dict[str, tuple[Callable[[Path, int], Path], Load]] = {
    "trained": (run_folder, load_trained),
    "exported": (exported, load_engine),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    folder: Path
    other: Path
    load: Load


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    make, load = KINDS[request.param]
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(request.param) / "here"
        folder.mkdir()
        folders.append(make(folder, seed))
    torch.set_num_threads(before)
    return Kind(folder=folders[0], other=folders[1], load=load)


@pytest.fixture
def counter(kind: Kind) -> Counter:
    return kind.load(kind.folder)


def close(first: Answer, second: Answer) -> bool:
    assert isinstance(first, CountDistribution)
    assert isinstance(second, CountDistribution)
    return second.probabilities == pytest.approx(first.probabilities, abs=1e-5)


def test_photos_are_told_apart(counter: Counter) -> None:
    answers = counter.count(PHOTOS)
    assert len({one.probabilities for one in answers if isinstance(one, CountDistribution)}) == len(PHOTOS)


def test_an_answer_does_not_depend_on_the_company(counter: Counter) -> None:
    together = counter.count(PHOTOS)
    for size in (1, 3, 4, 5):
        some = [answer for k in range(0, len(PHOTOS), size) for answer in counter.count(PHOTOS[k : k + size])]
        assert all(close(a, b) for a, b in zip(together, some, strict=True))
    assert all(close(a, b) for a, b in zip(together, counter.count(PHOTOS[::-1])[::-1], strict=True))


def test_nothing_gives_nothing(counter: Counter) -> None:
    assert counter.count([]) == []


def test_what_cannot_be_read_stands_in_its_place_and_changes_no_other(counter: Counter) -> None:
    mixed = [BROKEN[0], PHOTOS[0], BROKEN[1], BROKEN[2], PHOTOS[1], PHOTOS[2], BROKEN[3], PHOTOS[3]]
    answers = counter.count(mixed)
    bad = [k for k, one in enumerate(answers) if isinstance(one, Unreadable)]
    assert bad == [0, 2, 3, 6]
    assert all(one.reason for one in answers if isinstance(one, Unreadable))
    good = [one for one in answers if isinstance(one, CountDistribution)]
    assert all(close(a, b) for a, b in zip(counter.count(PHOTOS[:4]), good, strict=True))
    assert all(isinstance(one, Unreadable) for one in counter.count(BROKEN))


def test_answers_follow_the_card(kind: Kind) -> None:
    with torch.no_grad():
        x = normalise(np.stack([read_square(one, SIZE) for one in PHOTOS]), PixelSpec(size=SIZE))
        logits = network(0)(torch.from_numpy(x)).numpy()
    card = read_card(kind.folder)
    assert card.calibration is not None
    for row, answer in zip(logits, kind.load(kind.folder).count(PHOTOS), strict=True):
        assert close(distribution_of(row.tolist(), COUNTS, card.calibration.temperature, 5.5), answer)
        assert isinstance(answer, CountDistribution)
        assert len(answer.probabilities) == 5
        assert answer.probabilities[0] == 0
        assert answer.open_mean == 5.5


def test_other_weights_have_another_id_and_the_same_ones_the_same(kind: Kind) -> None:
    ids = [kind.load(folder).model_id for folder in (kind.folder, kind.folder, kind.other)]
    assert ids[0] == ids[1] != ids[2]
    code = (
        "import sys; from pathlib import Path; from bintally.card import read_card;"
        "print(read_card(Path(sys.argv[1])).model_id)"
    )
    told = subprocess.run([sys.executable, "-c", code, kind.folder], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == ids[0]
