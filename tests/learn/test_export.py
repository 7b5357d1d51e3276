import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from PIL import Image

from bintally import pixels
from bintally.calibration import fit_temperature
from bintally.card import Calibration, ModelCard, read_card, write_card
from bintally.counts import CountRange
from bintally.data.manifest import Manifest, build_manifest, write_manifest
from bintally.data.rows import Part, SplitInfo
from bintally.errors import DiskFullError, ManifestError, ModelError
from bintally.learn import export as module
from bintally.learn.agreement import Limits
from bintally.learn.export import ExportSettings, export
from bintally.learn.head import HeadKind
from bintally.learn.model import CountModel, ModelSettings, build_model, load_run_model
from bintally.learn.refit import joined
from bintally.learn.run import SPLIT_FILE, save_best
from bintally.progress import Silent

SIZE = 32
COUNTS = CountRange(lowest=1, highest=4)
QUICK = ExportSettings(num_check=24, num_quantise=16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Sixty photos of coloured noise, a dozen a part and more, none of them a bin."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "bin-images").mkdir()
    (folder / "metadata").mkdir()
    random = np.random.default_rng(0)
    for number in range(60):
        noise = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((40, 48))
        out = io.BytesIO()
        noise.save(out, "JPEG")
        (folder / "bin-images" / f"{number}.jpg").write_bytes(out.getvalue())
        record = {"BIN_FCSKU_DATA": {}, "EXPECTED_QUANTITY": number % 6}
        (folder / "metadata" / f"{number}.json").write_text(json.dumps(record))
    built = build_manifest(folder, workers=1)
    parts: tuple[Part, ...] = ("train", "validation", "calibration", "validation", "test")
    rows = tuple(
        dataclasses.replace(row, part=parts[place % 5], group=str(place)) for place, row in enumerate(built.rows)
    )
    split = SplitInfo(counts=COUNTS, seed=0, fractions=(0.2, 0.4, 0.2, 0.2), shuffled=False)
    return dataclasses.replace(built, rows=rows, split=split)


@pytest.fixture(scope="module")
def run(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as `train` leaves it: a small network, not trained, but with statistics and a head that tells."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    torch.manual_seed(0)
    model = build_model(ModelSettings(backbone="tiny"), COUNTS)
    photos = [manifest.path_of(row).read_bytes() for row in manifest.rows]
    batch = torch.from_numpy(np.stack([pixels.read_input(one, pixels.PixelSpec(size=SIZE)) for one in photos]))
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(batch)
        model.head.weight.normal_(std=0.5)
    write_manifest(folder / SPLIT_FILE, manifest)
    config = model.backbone.config
    card = ModelCard(
        architecture="tiny", pixels=pixels.PixelSpec(size=SIZE), counts=COUNTS, metrics={"validation": {}}
    )
    save_best(folder, model.state_dict(), config.to_dict(), card)  # type: ignore[operator,union-attr]
    calibrated = dataclasses.replace(read_card(folder), calibration=Calibration(temperature=1.7, num_photos=12))
    write_card(folder, calibrated)
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("models") / "float32"
    export(run, to, QUICK, Silent())
    return to


@pytest.fixture
def same_onnx(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the seconds out of an export that another test makes in full: `model.onnx` is there already."""
    monkeypatch.setattr(module, "_write_onnx", lambda path, *_: shutil.copy(exported / "model.onnx", path))


def test_the_folder_holds_what_its_card_says(run: Path, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"model.onnx", "openvino.xml", "openvino.bin", "model.json"}
    card, trained = read_card(exported), read_card(run)
    assert card.kind == "exported"
    assert card.precision == "float32"
    assert card.calibration == trained.calibration
    assert card.counts == trained.counts
    assert card.notes == ()
    figures = card.metrics["export"]
    assert figures["run"] == trained.model_id != card.model_id
    for runtime in ("openvino", "onnx"):
        assert figures[runtime]["num_photos"] == 16  # of 24 validation photos, two counts of six are out of range
        assert figures[runtime]["difference"] <= 1e-4
        assert figures[runtime]["changed"] == 0
    assert not list(exported.parent.glob(".*"))


def test_every_batch_size_gives_the_trained_answers(run: Path, exported: Path, manifest: Manifest) -> None:
    model, card = load_run_model(run)
    compiled = openvino.Core().compile_model(exported / "openvino.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    photos = [manifest.path_of(row).read_bytes() for row in manifest.rows[:7]]
    x = np.stack([pixels.read_input(one, card.pixels) for one in photos])
    with torch.no_grad():
        logits, maps = (one.numpy() for one in model.forward_maps(torch.from_numpy(x)))
    for few in (1, 2, 7):
        answer = compiled({"photos": x[:few]})
        np.testing.assert_allclose(answer["logits"], logits[:few], atol=1e-4)
        np.testing.assert_allclose(answer["maps"], maps[:few], atol=1e-3)
    bias = model.head.bias.detach().numpy()
    np.testing.assert_allclose(maps.mean(axis=(2, 3)) + bias, logits, atol=1e-4)


def test_plain_onnx_runtime_runs_the_model(run: Path, exported: Path, manifest: Manifest, tmp_path: Path) -> None:
    model, card = load_run_model(run)
    photo = manifest.path_of(manifest.rows[0]).read_bytes()
    (tmp_path / "photo.jpg").write_bytes(photo)
    code = (
        "import sys, json, numpy, onnxruntime\n"
        "from PIL import Image\n"
        "card = json.load(open(sys.argv[1] + '/model.json'))\n"
        "size, mean, std = (card['pixels'][name] for name in ('size', 'mean', 'std'))\n"
        "square = Image.open(sys.argv[2]).convert('RGB').resize((size, size), Image.Resampling.BILINEAR)\n"
        "x = (numpy.asarray(square, numpy.float32) / 255 - mean) / std\n"
        "x = x.transpose(2, 0, 1)[None].astype(numpy.float32)\n"
        "session = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx')\n"
        "logits, maps = session.run(None, {'photos': x})\n"
        "assert maps.shape[:2] == logits.shape, maps.shape\n"
        "assert not {'torch', 'bintally', 'openvino'} & set(sys.modules)\n"
        "print(json.dumps(logits[0].tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(exported), str(tmp_path / "photo.jpg")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model(torch.from_numpy(pixels.read_input(photo, card.pixels)[None]))[0].numpy()
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-3)


def test_the_onnx_file_names_no_local_paths(exported: Path) -> None:
    data = (exported / "model.onnx").read_bytes()
    assert b"/bintally/" not in data
    assert b"site-packages" not in data
    proto = onnx.load_from_string(data)
    assert [one.version for one in proto.opset_import if one.domain == ""] == [module.OPSET]
    assert {one.key for one in proto.metadata_props} == {"architecture", "counts", "licence"}


@pytest.mark.usefixtures("same_onnx")
def test_int8_keeps_its_maps_and_has_a_temperature_of_its_own(run: Path, tmp_path: Path, manifest: Manifest) -> None:
    card = export(run, tmp_path / "int8", dataclasses.replace(QUICK, precision="int8"), Silent(), accept=True)
    types = {
        op.get_type_name() for op in openvino.Core().read_model(tmp_path / "int8" / "openvino.xml").get_ordered_ops()
    }
    assert "FakeQuantize" in types
    compiled = openvino.Core().compile_model(
        tmp_path / "int8" / "openvino.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    rows = [row for row in manifest.of_part("calibration") if row.label is not None and 1 <= row.label <= 4]
    x = np.stack([pixels.read_input(manifest.path_of(row).read_bytes(), card.pixels) for row in rows])
    answer = compiled({"photos": x})
    bias = load_run_model(run)[0].head.bias.detach().numpy()
    np.testing.assert_allclose(answer["maps"].mean(axis=(2, 3)) + bias, answer["logits"], atol=1e-3)
    assert card.calibration is not None
    assert card.calibration.num_photos == len(rows)
    expected = fit_temperature(answer["logits"], [row.label - 1 for row in rows if row.label is not None])
    assert card.calibration.temperature == pytest.approx(expected, rel=1e-2)
    float_size = (tmp_path / "int8" / "model.onnx").stat().st_size
    assert (tmp_path / "int8" / "openvino.bin").stat().st_size < 0.5 * float_size


@pytest.mark.usefixtures("same_onnx")
def test_a_breach_stops_the_export_and_can_be_accepted(run: Path, tmp_path: Path) -> None:
    strict = dataclasses.replace(QUICK, float32=Limits(difference=0.0))
    with pytest.raises(ModelError, match=r"does not agree .*float32 in OpenVINO: probabilities differ by up to"):
        export(run, tmp_path / "model", strict, Silent())
    assert list(tmp_path.iterdir()) == []
    card = export(run, tmp_path / "model", strict, Silent(), accept=True)
    assert any(note.startswith("accepted: float32 in OpenVINO: probabilities differ") for note in card.notes)
    assert read_card(tmp_path / "model") == card


def test_an_exported_model_that_answers_otherwise_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = module._write_onnx

    def other(path: Path, model: torch.nn.Module, card: ModelCard) -> None:
        with torch.no_grad():
            model.head.bias[1] += 0.1  # type: ignore[union-attr,operator,index]
            write(path, model, card)  # type: ignore[arg-type]
            model.head.bias[1] -= 0.1  # type: ignore[union-attr,operator,index]

    monkeypatch.setattr(module, "_write_onnx", other)
    with pytest.raises(ModelError, match=r"float32 in OpenVINO: .*model.onnx in ONNX Runtime: .*at most 0.0001 may"):
        export(run, tmp_path / "model", QUICK, Silent())


@pytest.mark.usefixtures("same_onnx")
def test_bfloat16_is_said_on_the_card(run: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, precision="bfloat16")
    card = export(run, tmp_path / "model", settings, Silent(), accept=True)
    assert card.precision == "bfloat16"
    assert card.calibration == read_card(run).calibration
    assert card.metrics["export"]["onnx"]["difference"] <= 1e-4


@pytest.mark.usefixtures("same_onnx")
def test_an_uncalibrated_run_gets_its_temperature(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    write_card(copy, dataclasses.replace(read_card(copy), calibration=None))
    card = export(copy, tmp_path / "model", QUICK, Silent())
    assert card.calibration is not None
    assert card.calibration.num_photos == 8


@pytest.mark.usefixtures("same_onnx")
def test_what_is_there_is_not_written_over(run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exists: name another folder with --to, or replace it with --force"):
        export(run, exported, QUICK, Silent())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ModelError, match="is no model folder"):
        export(run, tmp_path / "mine", QUICK, Silent(), force=True)
    assert (tmp_path / "mine" / "thesis.txt").is_file()
    copy = Path(shutil.copytree(exported, tmp_path / "model"))
    (copy / "old").write_text("")
    export(run, copy, QUICK, Silent(), force=True)
    read_card(copy)
    assert not (copy / "old").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "model"}


def test_a_full_disk_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_onnx", full)
    with pytest.raises(DiskFullError, match="no room left"):
        export(run, tmp_path / "model", QUICK, Silent())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no model\.json"):
        export(tmp_path / "none", tmp_path / "model", QUICK, Silent())
    with pytest.raises(ModelError, match="not a run of"):
        export(exported, tmp_path / "model", QUICK, Silent())
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / SPLIT_FILE).unlink()
    with pytest.raises(ManifestError, match="no manifest"):
        export(copy, tmp_path / "model", QUICK, Silent())


def test_a_run_that_learnt_from_the_validation_part_is_checked_on_the_calibration_part(
    run: Path, manifest: Manifest, tmp_path: Path, same_onnx: None
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    write_manifest(copy / SPLIT_FILE, joined(manifest))
    card = export(copy, tmp_path / "model", QUICK, Silent())
    assert card.metrics["export"]["part"] == "calibration"
    known = [row.label for row in manifest.of_part("calibration") if row.label is not None]
    assert card.metrics["export"]["openvino"]["num_photos"] == sum(COUNTS.class_of(one) is not None for one in known)


def test_a_run_with_training_photos_alone_is_checked_on_those(
    run: Path, manifest: Manifest, tmp_path: Path, same_onnx: None
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    rows = tuple(dataclasses.replace(row, part="train") for row in manifest.rows)
    write_manifest(copy / SPLIT_FILE, dataclasses.replace(manifest, rows=rows))
    card = export(copy, tmp_path / "model", QUICK, Silent())
    assert card.metrics["export"]["part"] == "train"


def test_without_photos_to_check_it_on_nothing_is_believed(run: Path, manifest: Manifest, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    rows = tuple(dataclasses.replace(row, part="test") for row in manifest.rows)
    write_manifest(copy / SPLIT_FILE, dataclasses.replace(manifest, rows=rows))
    with pytest.raises(ModelError, match="no photos that can be read"):
        export(copy, tmp_path / "model", QUICK, Silent())


@pytest.mark.slow
@pytest.mark.parametrize(("head", "precision"), [("linear", "int8"), ("corn", "float32"), ("coral", "int8")])
def test_mirroring_and_ordinal_heads_go_into_the_model(
    run: Path, manifest: Manifest, tmp_path: Path, head: HeadKind, precision: module.Precision
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    model, card = load_run_model(run)
    torch.manual_seed(1)
    changed = CountModel(model.backbone, 4, unfrozen_stages=0, head=head, mirror=True).eval()
    with torch.no_grad():
        changed.head.weight.normal_(std=0.5)
    config = changed.backbone.config
    new = dataclasses.replace(card, head=head, mirror=True)
    save_best(copy, changed.state_dict(), config.to_dict(), new)  # type: ignore[operator,union-attr]
    done = export(copy, tmp_path / "model", dataclasses.replace(QUICK, precision=precision), Silent(), accept=True)
    assert done.mirror
    assert done.head == head
    assert done.metrics["export"]["onnx"]["difference"] <= 1e-4
    if precision == "float32":
        assert done.metrics["export"]["openvino"]["difference"] <= 1e-4
    folder = tmp_path / "model" / "openvino.xml"
    compiled = openvino.Core().compile_model(folder, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    photo = pixels.read_input(manifest.path_of(manifest.rows[0]).read_bytes(), card.pixels)[None]
    one, other = compiled({"photos": photo}), compiled({"photos": np.ascontiguousarray(photo[..., ::-1])})
    np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-3)
    np.testing.assert_allclose(one["maps"], other["maps"][..., ::-1], atol=1e-3)
    outputs = {output.any_name: str(output.partial_shape) for output in compiled.outputs}
    assert outputs["logits"] == "[?,4]"
    assert outputs["maps"].startswith("[?,4,")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_scales_go_into_the_model(run: Path, manifest: Manifest, tmp_path: Path, precision: module.Precision) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    card = dataclasses.replace(load_run_model(run)[1], scales=(32, 48, 64), mirror=True)
    write_card(copy, card)
    model, _ = load_run_model(copy)
    done = export(copy, tmp_path / "model", dataclasses.replace(QUICK, precision=precision), Silent(), accept=True)
    assert done.scales == (32, 48, 64)
    assert done.metrics["export"]["onnx"]["difference"] <= 1e-4
    compiled = openvino.Core().compile_model(
        tmp_path / "model" / "openvino.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    photo = pixels.read_input(manifest.path_of(manifest.rows[0]).read_bytes(), card.pixels)[None]
    with torch.inference_mode():
        logits, maps = model.forward_maps(torch.from_numpy(photo))
    near = 1e-3 if precision == "float32" else 0.5
    answers = compiled({"photos": photo})
    np.testing.assert_allclose(answers["logits"], logits.numpy(), atol=near)
    assert answers["maps"].shape == maps.shape
