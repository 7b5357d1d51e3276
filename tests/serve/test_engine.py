import dataclasses
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from bintally import pixels
from bintally.card import read_card, write_card
from bintally.counts import CountDistribution, CountRange, Unreadable, distribution_of
from bintally.errors import ModelError, UnreadablePhotoError
from bintally.files import sha256_of
from bintally.serve.engine import Engine, EngineSettings, _Turns
from tests.model_folder import make_model, make_photo

TWO = EngineSettings(threads=2)


@pytest.fixture(scope="module")
def engine(model_folder: Path) -> Engine:
    return Engine.load(model_folder, settings=TWO)


@pytest.fixture(scope="module")
def reference(model_folder: Path, photos: list[bytes]) -> np.ndarray[Any, Any]:
    """Logits by the plain runtime, from photos that were normalised outside of it."""
    compiled = openvino.Core().compile_model(
        model_folder / "openvino.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    spec = pixels.PixelSpec(size=32)
    return np.array(compiled({"photos": np.stack([pixels.read_input(one, spec) for one in photos])})["logits"])


def test_logits_are_those_of_the_network_on_normalised_photos(
    engine: Engine, photos: list[bytes], reference: np.ndarray[Any, Any]
) -> None:
    squares = np.stack([pixels.read_square(one, 32) for one in photos])
    for few in (1, 2, 3, 12):
        np.testing.assert_allclose(engine.logits(squares[:few]), reference[:few], atol=2e-5)
    assert engine.logits(squares[:0]).shape == (0, 6)


def test_answers_follow_the_card(engine: Engine, photos: list[bytes], reference: np.ndarray[Any, Any]) -> None:
    answers = engine.count(photos)
    for answer, logits in zip(answers, reference, strict=True):
        assert isinstance(answer, CountDistribution)
        expected = distribution_of(logits.tolist(), CountRange(), 1.5, None)
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-5)


def test_order_is_kept_and_the_unreadable_are_values(engine: Engine, photos: list[bytes]) -> None:
    one_by_one = [engine.count([photo])[0] for photo in photos]
    mixed = [b"", *photos, photos[0][:200], *photos, b"GIF89a"]
    answers = engine.count(mixed)
    assert isinstance(answers[0], Unreadable)
    assert isinstance(answers[13], Unreadable)
    assert isinstance(answers[-1], Unreadable)
    for answer, single in zip(answers[1:13] + answers[14:26], one_by_one * 2, strict=True):
        assert isinstance(answer, CountDistribution)
        assert isinstance(single, CountDistribution)
        np.testing.assert_allclose(answer.probabilities, single.probabilities, atol=1e-5)
    assert engine.count([]) == []


def test_classes_start_at_the_lowest_count(tmp_path: Path, photos: list[bytes]) -> None:
    make_model(tmp_path / "m", counts=CountRange(lowest=1, highest=4, open_ended=True), open_mean=5.5)
    engine = Engine.load(tmp_path / "m", settings=TWO)
    (answer,) = engine.count(photos[:1])
    assert isinstance(answer, CountDistribution)
    assert len(answer.probabilities) == 5
    assert answer.probabilities[0] == 0.0
    assert answer.open_mean == 5.5
    assert engine.explain(photos[0])[0].count == answer.count


def test_many_threads_get_their_own_answers(
    engine: Engine, photos: list[bytes], reference: np.ndarray[Any, Any]
) -> None:
    squares = np.stack([pixels.read_square(one, 32) for one in photos])
    random = np.random.default_rng(0)
    asked = [sorted(random.choice(12, size=random.integers(1, 6), replace=False)) for _ in range(150)]
    with ThreadPoolExecutor(8) as pool:
        for which, got in zip(asked, pool.map(lambda w: engine.logits(squares[w]), asked), strict=True):
            np.testing.assert_allclose(got, reference[which], atol=2e-5)


def test_never_more_at_work_than_there_are_threads(engine: Engine, photos: list[bytes]) -> None:
    running, most, lock = 0, 0, threading.Lock()
    shared, alone = engine._shared.infer, engine._alone.infer if engine._alone else None
    assert alone is not None

    def counted(infer: Any, width: int) -> Any:
        def wrapped(squares: Any) -> Any:
            nonlocal running, most
            with lock:
                running += width
                most = max(most, running)
            try:
                time.sleep(0.001)
                return infer(squares)
            finally:
                with lock:
                    running -= width

        return wrapped

    # A request waits for its turn inside `infer`; what is held here is that "alone" and "shared" never overlap.
    engine._shared.infer, engine._alone.infer = counted(shared, 1), counted(alone, 1000)  # type: ignore[method-assign,union-attr]
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda one: engine.count([one]), photos * 8))
    finally:
        engine._shared.infer, engine._alone.infer = shared, alone  # type: ignore[method-assign,union-attr]
    assert most <= 1000


def test_one_alone_gets_all_and_others_share() -> None:
    turns = _Turns()
    with turns.turn(lone=True) as alone:
        assert alone
        came: list[bool] = []
        thread = threading.Thread(target=lambda: _enter(turns, came))
        thread.start()
        thread.join(0.05)
        assert came == []  # it waits
    thread.join(5)
    assert came == [False]
    with turns.turn(lone=False) as alone:
        assert not alone
        with turns.turn(lone=True) as second:
            assert not second
    with turns.beside(), turns.turn(lone=True) as alone:
        assert not alone
    with turns.turn(lone=True) as alone:
        assert alone


def _enter(turns: _Turns, came: list[bool]) -> None:
    with turns.turn(lone=True) as alone:
        came.append(alone)


def test_settings_share_out_the_cores(model_folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert Engine.load(model_folder).concurrency == cores
    assert Engine.load(model_folder, settings=EngineSettings(threads=4, streams=2)).concurrency == 2
    assert Engine.load(model_folder, settings=EngineSettings(threads=1)).concurrency == 1
    one = Engine.load(model_folder, settings=EngineSettings(threads=3, streams=8, lone=False))
    assert one.concurrency == 3
    assert one._alone is None


def test_heat_lies_where_the_evidence_is(engine: Engine, photos: list[bytes], model_folder: Path) -> None:
    compiled = openvino.Core().compile_model(
        model_folder / "openvino.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    spec = pixels.PixelSpec(size=32)
    for photo in photos[:4]:
        answer, heat = engine.explain(photo)
        assert answer == engine.count([photo])[0]
        assert heat.shape == (32, 32)
        assert heat.dtype == np.float32
        assert heat.min() >= 0
        assert heat.max() == pytest.approx(1.0)
        maps = np.array(compiled({"photos": pixels.read_input(photo, spec)[None]})["maps"])[0]
        logits, own = engine.maps(pixels.read_square(photo, spec)[None])
        assert np.abs(own[0] - maps).max() < 1e-4
        assert engine.answer(logits[0]) == answer
        evidence = maps[answer.count] - maps.mean(axis=0)
        cells = heat.reshape(8, 4, 8, 4).mean(axis=(1, 3))
        assert np.corrcoef(cells.ravel(), np.maximum(evidence, 0).ravel())[0, 1] > 0.9
    with pytest.raises(UnreadablePhotoError):
        engine.explain(b"no photo")


def test_a_padded_photo_s_heat_is_over_the_photo_alone(model_folder: Path, tmp_path: Path) -> None:
    spec = pixels.PixelSpec(size=32, fit="pad")
    padded = Engine.load(_changed(model_folder, tmp_path / "padded", pixels=spec), settings=EngineSettings(threads=1))
    wide, tall = make_photo(width=60, height=30), make_photo(width=30, height=90)
    for photo, shape in ((wide, (16, 32)), (tall, (32, 11))):
        answer, heat = padded.explain(photo)
        assert heat.shape == shape
        assert answer == padded.count([photo])[0]
        expected = padded.logits(pixels.read_square(photo, spec)[None])
        squashed = padded.logits(pixels.read_square(photo, 32)[None])
        assert answer == padded.answer(expected[0])
        assert not np.allclose(expected, squashed)


def test_bombs_are_refused_by_the_setting(model_folder: Path, photos: list[bytes]) -> None:
    small = Engine.load(model_folder, settings=EngineSettings(threads=1, max_pixels=1000))
    (answer,) = small.count(photos[:1])
    assert isinstance(answer, Unreadable)
    assert "refused" in answer.reason


def test_wrong_arrays_are_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="uint8"):
        engine.logits(np.zeros((1, 32, 32, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="32, 32, 3"):
        engine.logits(np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("name", ["openvino.xml", "openvino.bin"])
def test_a_damaged_file_differs_from_its_card(model_folder: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(model_folder, tmp_path / "copy"))
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ModelError, match=f"{name} differs from its card"):
        Engine.load(copy)
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        Engine.load(copy)


def _changed(folder: Path, to: Path, **values: Any) -> Path:
    copy = Path(shutil.copytree(folder, to))
    write_card(copy, dataclasses.replace(read_card(copy, check_files=False), **values))
    return copy


def test_a_network_of_other_shapes_than_its_card(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes .*, the card says photos of 3×64×64"):
        Engine.load(_changed(model_folder, tmp_path / "a", pixels=pixels.PixelSpec(size=64)))
    with pytest.raises(ModelError, match=r"gives .* of 9 classes"):
        Engine.load(_changed(model_folder, tmp_path / "b", counts=CountRange(highest=8)))


def test_what_is_no_exported_model(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.json"):
        Engine.load(tmp_path)
    with pytest.raises(ModelError, match="holds a trained model: export it first"):
        Engine.load(_changed(model_folder, tmp_path / "a", kind="trained"))
    with pytest.raises(ModelError, match="unknown precision"):
        Engine.load(_changed(model_folder, tmp_path / "b", precision="int2"))
    with pytest.raises(ModelError, match=r"names no openvino\.xml"):
        Engine.load(_changed(model_folder, tmp_path / "c", files={}))


def test_a_network_that_openvino_cannot_read(model_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model_folder, tmp_path / "copy"))
    (copy / "openvino.xml").write_text("<net")
    hashes = {name: sha256_of(copy / name) for name in ("openvino.xml", "openvino.bin")}
    with pytest.raises(ModelError, match="cannot be loaded by OpenVINO"):
        Engine.load(_changed(copy, tmp_path / "d", files=hashes))


def test_the_folder_may_be_read_only_and_go_away(model_folder: Path, tmp_path: Path, photos: list[bytes]) -> None:
    copy = Path(shutil.copytree(model_folder, tmp_path / "copy"))
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    engine = Engine.load(copy, settings=TWO)
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before
    (copy / "openvino.bin").write_bytes(b"")  # not renamed: written over where it lies
    shutil.rmtree(copy)
    assert isinstance(engine.count(photos[:1])[0], CountDistribution)


def test_ids_tell_models_apart(model_folder: Path, tmp_path: Path, engine: Engine) -> None:
    assert engine.model_id == read_card(model_folder).model_id
    assert len(engine.model_id) == 12


def test_no_torch_in_the_process(model_folder: Path, tmp_path: Path, photos: list[bytes]) -> None:
    (tmp_path / "photo.jpg").write_bytes(photos[0])
    code = (
        "import sys\n"
        "sys.modules['torch'] = None  # any import of it fails\n"
        "from pathlib import Path\n"
        "from bintally.serve.engine import Engine\n"
        "engine = Engine.load(Path(sys.argv[1]))\n"
        "engine.explain(Path(sys.argv[2]).read_bytes())\n"
        "print(engine.count([Path(sys.argv[2]).read_bytes()])[0].count)\n"
        "assert sys.modules['torch'] is None\n"
        "heavy = {'lightning_fabric', 'transformers', 'onnx', 'nncf', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(model_folder), str(tmp_path / "photo.jpg")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
