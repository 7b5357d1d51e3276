"""`bintally demo`: the whole way, as a new user sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bintally.cli import demo
from bintally.cli.app import app
from bintally.errors import UsageError


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    done = CliRunner().invoke(app, ["demo", "--to", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_demo_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps({"photos": 300, "seed": 1}))
    done = CliRunner().invoke(app, ["demo", "--to", str(tmp_path), "--photos", "300"])
    assert isinstance(done.exception, UsageError)
    assert "--seed" in str(done.exception)


@pytest.mark.parametrize("activated", [True, False])
def test_it_ends_with_how_to_go_on(
    activated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/activate").touch()
    program = tmp_path / "bin/bintally"
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / ("bin" if activated else "elsewhere")))
    demo._tell(tmp_path / "run", 100.0, tmp_path / "summary.html", tmp_path / "evaluation.html")
    told = capsys.readouterr().out
    assert "done in 1.7 minutes" in told
    assert "bintally fetch s3://aft-vbi-pds" in told
    assert ("not on your PATH" in told) is not activated


@pytest.mark.slow
def test_the_whole_way_ends_with_a_counter_that_is_half_right_or_better(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bintally", "demo", "--to", str(tmp_path / "demo")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "demo" / "run" / "evaluation" / "evaluation.json").read_text())
    accuracy = found["scopes"][0]["raw"]["figures"]["accuracy"]["value"]
    assert 0.5 <= accuracy <= 0.85
    assert "bintally fetch s3://aft-vbi-pds" in done.stdout, "what to try next"
    for name in ("summary.html", "evaluation.html", "run/curves.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 10_000

    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "drawn already" in again.stderr
    assert "finished already" in again.stderr
