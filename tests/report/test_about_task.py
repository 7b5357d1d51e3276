"""The first chapters say what the run's own files say, and which command fills what is not there."""

from dataclasses import replace
from pathlib import Path

from bintally.report.about_task import benchmark, counts_of, data, definition, method
from bintally.report.document import Missing, Sheet
from tests.report import made, test_summary


def test_the_definition_names_the_counts(tmp_path: Path) -> None:
    assert "the counts 0-5" in made.text_of(definition(made.bare(tmp_path)))
    unknown = replace(made.bare(tmp_path / "b"), card=None)
    assert counts_of(unknown) == ""
    assert "a range of counts" in made.text_of(definition(unknown))
    assert counts_of(replace(unknown, data=test_summary.summarised())) == "0-1"


def test_data_are_described_with_photos(tmp_path: Path) -> None:
    section = data(made.whole(tmp_path))
    text = made.text_of(section)
    assert "4 photos of bins" in text
    assert "CC BY-NC-SA" in text
    assert "1 test photos (50.0 %) have a sibling of the same bin in training" in text
    (sheet,) = [one for one in section.blocks if isinstance(one, Sheet)]
    assert [(name, len(pictures)) for name, pictures in sheet.rows] == [("0", 1)]  # one of two is gone


def test_data_that_are_not_at_hand_are_one_line(tmp_path: Path) -> None:
    (block,) = data(made.bare(tmp_path)).blocks
    assert isinstance(block, Missing)
    assert "--photos" in block.command
    moved = replace(made.whole(tmp_path / "b"), read_photo=lambda _: None)
    assert any(isinstance(one, Missing) and "--photos" in one.command for one in data(moved).blocks)


def test_a_split_by_series_and_none(tmp_path: Path) -> None:
    material = made.whole(tmp_path)
    summary = test_summary.summarised()
    by_series = summary | {"split": summary["split"] | {"shuffled": False}}
    assert "By series" in made.text_of(data(replace(material, data=by_series)))
    assert "not split" in made.text_of(data(replace(material, data=summary | {"split": None})))


def test_the_method_is_told_from_the_settings(tmp_path: Path) -> None:
    text = made.text_of(method(made.bare(tmp_path)))
    for said in (
        *("96 × 96", "flip 0.5", "`weights/resnet-50`, pretrained", "but for its last stage", "dropout 0.25"),
        *("1,200 photos, judged on 300", "adamw", "cosine", "weight decay 0.05", "label smoothing 0.1"),
        *("class weights root", "after 3 epochs without", "seed 7", "bf16-mixed", "train.patience"),
    ):
        assert said in text, said
    assert "shift" not in text.split("Every setting")[0]
    assert "train.workers" not in text  # says how long it takes, not what comes of it


def test_a_frozen_backbone_and_one_from_scratch(tmp_path: Path) -> None:
    settings = made.ABOUT["settings"]
    assert isinstance(settings, dict)

    def told(name: str, **model: object) -> str:
        changed = settings | {"model": {**settings["model"], **model}}
        return made.text_of(method(made.bare(tmp_path / name, settings=changed)))

    assert "stays frozen" in told("a", unfrozen_stages=0)
    assert "last 2 stages, which are learnt" in told("b", unfrozen_stages=2)
    assert "from scratch" in told("c", backbone="tiny")
    small = settings | {"model": {**settings["model"], "backbone": "tiny"}}
    for name, one, how in (("d", settings, "by transfer learning"), ("e", small, "from scratch")):
        assert f"as labels, {how}" in made.text_of(definition(made.bare(tmp_path / name, settings=one)))


def test_the_benchmark_is_the_majority_and_the_published(tmp_path: Path) -> None:
    text = made.text_of(benchmark(made.whole(tmp_path)))
    assert "always answering 2 is right for" in text
    assert "abid_challenge" in text
    assert "26 to 36 %" in text


def test_without_an_evaluation_the_majority_is_told_from_the_split(tmp_path: Path) -> None:
    found = replace(made.bare(tmp_path), data=test_summary.summarised())
    assert "Always answering 1" in made.text_of(benchmark(found))
    assert "is right for 100.0 % of the 1 test photos" in made.text_of(benchmark(found))
    blocks = benchmark(replace(found, data=None)).blocks
    assert any(isinstance(one, Missing) and one.command.startswith("bintally evaluate") for one in blocks)
