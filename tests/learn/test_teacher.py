"""A teacher: its answers are learnt beside the labels, asked once, and give nothing away."""

import contextlib
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bintally.counts import CountRange
from bintally.data.manifest import Manifest, write_manifest
from bintally.errors import ModelError, RunError, RunStoppedError
from bintally.learn import teacher as of_teacher
from bintally.learn.checkpoint import same_bits
from bintally.learn.listen import Listener
from bintally.learn.recipe import Recipe
from bintally.learn.run import read_run
from bintally.learn.stopping import Stop
from bintally.learn.teacher import Teacher, TeacherSettings
from bintally.learn.train import train
from bintally.progress import Silent

MakeManifest = Callable[..., Manifest]
Tiny = Callable[..., Recipe]


def taught(recipe: Recipe, run: Path, weight: float = 0.5) -> Recipe:
    return replace(recipe, teacher=TeacherSettings(run=str(run), weight=weight))


def test_the_loss_is_least_where_labels_and_teacher_meet() -> None:
    teacher = Teacher(probabilities=torch.tensor([[0.2, 0.8], [0.5, 0.5]]), weight=0.25)
    places = torch.tensor([1, 0, 0])
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.2, 0.8]]))
    told = teacher.loss(torch.tensor(2.0), logits, places)
    entropies = [np.log(2), *[-(0.2 * np.log(0.2) + 0.8 * np.log(0.8))] * 2]
    assert told.item() == pytest.approx(0.75 * 2.0 + 0.25 * np.mean(entropies), abs=1e-6)
    for move in (-0.3, 0.3):  # away from the teacher's own answer it costs more
        assert teacher.loss(torch.tensor(2.0), logits + torch.tensor([move, 0.0]), places) > told


def test_a_teacher_who_is_sure_is_believed_over_the_labels(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(num=60)
    train(manifest, tmp_path / "teacher", tiny(epochs=1))

    def fours(model: object, card: object, data: object, fabric: object, logits: torch.Tensor, *rest: object) -> None:
        logits[:, 4] = 12.0

    monkeypatch.setattr(of_teacher, "_ask", fours)
    matrices: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []

    class Looks(Listener):
        def on_epoch(self, step: int, row: object, matrix: object) -> None:
            matrices.append(np.asarray(matrix))

    for weight in (0.0, 1.0):
        recipe = taught(tiny(epochs=20), tmp_path / "teacher", weight=weight)
        train(manifest, tmp_path / f"student-{weight}", recipe, listeners=[Looks()])
        fours = matrices[-1][:, 4].sum() / matrices[-1].sum()
        assert (fours == 1) == (weight == 1), fours


def test_a_taught_run_goes_on_to_the_same_bits_without_asking_again(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(num=30)
    train(manifest, tmp_path / "teacher", tiny(epochs=1))
    recipe = taught(tiny(epochs=3, checkpoint_every_steps=1), tmp_path / "teacher")
    train(manifest, tmp_path / "whole", recipe)
    plain = replace(recipe, teacher=TeacherSettings())
    train(manifest, tmp_path / "plain", plain)

    class Ends(Listener):
        def on_step(self, step: int, epoch: int, loss: float) -> None:
            if step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "killed", recipe, listeners=[Ends()])
    answers = np.load(tmp_path / "killed" / "checkpoints" / "teacher.npy")
    assert answers.shape == (len(manifest.of_part("train")), 6)
    monkeypatch.setattr(of_teacher, "_ask", None)  # who asks again fails
    train(manifest, tmp_path / "killed", recipe)
    shutil.move(tmp_path / "teacher", tmp_path / "elsewhere")
    assert train(manifest, tmp_path / "killed", recipe).already  # who has finished needs no teacher
    with pytest.raises(ModelError):
        train(manifest, tmp_path / "killed", recipe, restart=True)
    assert read_run(tmp_path / "killed")["status"] == "finished"  # nothing is lost for a teacher that is not there
    whole, killed, alone = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed", "plain"))
    assert same_bits(whole, killed)
    assert not same_bits(whole, alone)
    assert not (tmp_path / "whole" / "checkpoints").exists()  # nothing is left that only a training needs


def test_another_teacher_is_asked_anew_when_the_run_is_restarted(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=30)
    for seed in (1, 2):
        train(manifest, tmp_path / f"teacher-{seed}", tiny(epochs=1, seed=seed))

    class Ends(Listener):
        def on_epoch(self, *told: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "run", taught(tiny(), tmp_path / "teacher-1"), listeners=[Ends()])
    train(manifest, tmp_path / "run", taught(tiny(), tmp_path / "teacher-2"), restart=True)
    train(manifest, tmp_path / "fresh", taught(tiny(), tmp_path / "teacher-2"))
    assert same_bits(load_file(tmp_path / "run/model.safetensors"), load_file(tmp_path / "fresh/model.safetensors"))


@pytest.mark.parametrize("bytes_", [b"", b"no array", None], ids=["empty", "damaged", "another shape"])
def test_answers_that_were_kept_and_are_no_good_are_asked_for_again(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, bytes_: bytes | None
) -> None:
    manifest = make_manifest(num=30)
    train(manifest, tmp_path / "teacher", tiny(epochs=1))
    recipe = taught(tiny(epochs=2), tmp_path / "teacher")

    class Ends(Listener):
        def on_epoch(self, *told: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "run", recipe, listeners=[Ends()])
    path = tmp_path / "run" / "checkpoints" / "teacher.npy"
    good = path.read_bytes()
    if bytes_ is None:
        np.save(path, np.zeros((3, 2), dtype=np.float32))
    else:
        path.write_bytes(bytes_)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "run", recipe, listeners=[Ends()])
    assert path.read_bytes() == good


def test_a_teacher_that_learnt_from_what_is_kept_apart_is_refused(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    manifest = make_manifest(num=30)
    moved = {"train": "calibration", "calibration": "train"}
    rows = tuple(replace(row, part=moved.get(row.part or "", row.part)) for row in manifest.rows)
    other = write_manifest(tmp_path / "other.parquet", replace(manifest, rows=rows, digest=None))  # type: ignore[arg-type]
    train(other, tmp_path / "teacher", tiny(epochs=1))
    with pytest.raises(RunError, match=r"learnt from 6 photos of this split's calibration part"):
        train(manifest, tmp_path / "run", taught(tiny(), tmp_path / "teacher"))
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_range_and_none_at_all_are_refused(
    make_squares: MakeManifest, tiny: Tiny, tmp_path: Path
) -> None:
    few = make_squares(tmp_path / "few", num=30, counts=CountRange(lowest=0, highest=3), most=3)
    train(few, tmp_path / "teacher", tiny(epochs=1))
    manifest = make_squares(tmp_path / "photos", num=30)
    with pytest.raises(RunError, match="train it on a split of that range"):
        train(manifest, tmp_path / "run", taught(tiny(), tmp_path / "teacher"))
    with pytest.raises(ModelError):
        train(manifest, tmp_path / "run", taught(tiny(), tmp_path / "nobody"))
    assert not (tmp_path / "run").exists()


def test_a_stop_while_the_teacher_is_asked_leaves_the_folder_free(
    make_manifest: MakeManifest, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(num=30)
    train(manifest, tmp_path / "teacher", tiny(epochs=1))

    class Impatient(Silent):
        def begin(self, task: str, total: int | None = None) -> None:
            if task == "ask the teacher":
                stop.signal = signal.SIGTERM  # as the handler would, which tests in threads of their own lack

    recipe, stop = taught(tiny(), tmp_path / "teacher"), Stop()
    with monkeypatch.context() as patch:
        patch.setattr("bintally.learn.train.stop_signals", lambda: contextlib.nullcontext(stop))
        with pytest.raises(RunStoppedError, match="while the teacher was asked") as caught:
            train(manifest, tmp_path / "run", recipe, progress=Impatient())
    assert caught.value.exit_code == 143
    assert not any((tmp_path / "run").glob("*"))
    train(manifest, tmp_path / "run", recipe)
    assert read_run(tmp_path / "run")["status"] == "finished"
