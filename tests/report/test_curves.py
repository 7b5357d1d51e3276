"""Learning curves: what is drawn is what history.csv says."""

from pathlib import Path

import pytest
from PIL import Image

from bintally.errors import RunError
from bintally.report.curves import curves, read_history, write_curves

HEAD = "epoch,train_nll,validation_nll,train_accuracy,validation_accuracy,validation_within_one,validation_rmse\n"
ROWS = "1,1.6,1.5,0.2,0.3,0.6,1.4\n2,1.2,1.1,0.5,0.4,0.8,1.1\n3,0.9,1.3,0.7,0.4,0.8,1.2\n"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    (tmp_path / "history.csv").write_text(
        HEAD + "1,1.6,1.5,0.2,0.3,0.6,1.4\n2,1.2,1.1,0.5,0.4,0.8,1.1\n3,0.9,1.3,0.7,0.4,0.8,1.2\n"
    )
    return tmp_path / "history.csv"


def test_the_lines_are_the_figures_and_the_best_epoch_is_marked(history: Path) -> None:
    left, middle, right = curves(history).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.lines}
    assert drawn["training"] == [1.6, 1.2, 0.9]
    assert drawn["validation"] == [1.5, 1.1, 1.3]
    assert list(left.lines[2].get_xdata()) == [2, 2]
    assert len(middle.lines) == 4
    assert len(right.lines) == 2  # the expected count's error is not in this history


def test_a_png_on_white_that_is_the_same_each_time(history: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_curves(history, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] > 1000
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("text", ["", HEAD, "a,b\n1,2\n", HEAD + "1,x,1,1,1,1,1\n", HEAD + "1,1\n"])
def test_what_is_no_history_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(RunError, match=r"history\.csv"):
        read_history(tmp_path / "history.csv")
    with pytest.raises(RunError, match="cannot read"):
        read_history(tmp_path / "missing.csv")
