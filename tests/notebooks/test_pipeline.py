"""The notebook is what its source says, can be read, and runs from top to bottom on this machine alone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bintally.cloud.cost import endpoint_cost, read_prices, training_cost, tuning_cost
from bintally.cloud.options import CloudSettings
from bintally.settings import fill

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LARGEST = 1_000_000
"""Bytes of the notebook with its outputs."""


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((NOTEBOOKS / "pipeline.ipynb").read_bytes())
    return found


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_the_notebook_holds_the_cells_of_its_source(notebook: dict[str, Any]) -> None:
    code = (
        "import json, sys; sys.path.insert(0, 'notebooks'); import run\n"
        "print(json.dumps([[cell.cell_type, cell.source] for cell in run.read_source().cells]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=NOTEBOOKS.parent, capture_output=True, text=True, check=True
    )
    held = [[cell["cell_type"], source_of(cell)] for cell in notebook["cells"]]
    assert held == json.loads(done.stdout), "run `make notebook`: pipeline.ipynb is older than pipeline.py"


def test_a_paragraph_stands_before_each_cell(notebook: dict[str, Any]) -> None:
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    for place, kind in enumerate(kinds):
        assert kind == "markdown" or kinds[place - 1] == "markdown", source_of(notebook["cells"][place])


def test_it_is_kept_with_outputs_and_small(notebook: dict[str, Any]) -> None:
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [out for cell in code for out in cell["outputs"]]
    assert not [out for out in outputs if out["output_type"] == "error"]
    assert "\x1b" not in "".join("".join(out.get("text", "")) for out in outputs), "bars and colours of a terminal"
    assert sum("image/png" in out.get("data", {}) for out in outputs) >= 6
    assert (NOTEBOOKS / "pipeline.ipynb").stat().st_size < LARGEST
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_one_setting_takes_it_to_aws(
    notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file that docs/aws-first-run.md gives: where the cell that starts the service here reads it."""
    monkeypatch.setenv("AWS_REGION", "nowhere")
    page = (NOTEBOOKS.parent / "docs/aws-first-run.md").read_text(encoding="utf-8")
    (tmp_path / "cloud.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    (parameters,) = [one for one in notebook["cells"] if "parameters" in one["metadata"].get("tags", ())]
    (service,) = [one for one in notebook["cells"] if "atexit.register" in source_of(one)]
    names: dict[str, Any] = {"os": os, "tomllib": tomllib, "Path": Path}
    exec(source_of(parameters), names)
    assert names["CLOUD"] == "local"
    names["CLOUD"] = str(tmp_path / "cloud.toml")
    exec(source_of(service), names)
    assert (names["BUCKET"], os.environ["AWS_REGION"]) == ("my-bins-123456789012", "us-east-1")
    # No step costs more than the file allows: there is nobody to ask.
    settings = fill(CloudSettings, "cloud", file={"cloud": names["settings"]}, environ={})
    prices = read_prices()
    tuning = tuning_cost(settings, prices, names["TUNE_JOBS"])
    for reckoning in (tuning, training_cost(settings, prices), endpoint_cost(settings, prices)):
        assert not reckoning.exceeds(settings.cost_limit), reckoning.words()


def end_what_is_left(folder: Path) -> None:
    """Ends every program that has `folder` among its words or works in it: a kernel that hangs leaves its service."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words, place = (process / "cmdline").read_bytes(), (process / "cwd").readlink()
            if str(folder).encode() in words or place.is_relative_to(folder):
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    small = {"PHOTOS": 400, "EPOCHS": 2, "TUNE_JOBS": 2, "TUNE_EPOCHS": 1}
    words = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    to = tmp_path / "out.ipynb"
    command = [sys.executable, str(NOTEBOOKS / "run.py"), *words, "--to", str(to), "--folder", str(tmp_path / "run")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3000)
    finally:
        end_what_is_left(tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    work = tmp_path / "run" / "pipeline-work"
    job = json.loads((work / "job.json").read_bytes())
    assert job["status"] == "Completed"
    tuning = json.loads((work / "tuning.json").read_bytes())
    assert [one["status"] for one in tuning["trainings"]] == ["Completed", "Completed"]
    page = (work / "report.html").read_text(encoding="utf-8")
    assert 'class="missing"' not in page, "every chapter of the report has its stage in the notebook"
    assert (work / "report.pdf").read_bytes().startswith(b"%PDF-")
    said = "".join(
        "".join(out.get("text", ""))
        for cell in json.loads(to.read_bytes())["cells"]
        for out in cell.get("outputs", ())
        if out["output_type"] == "stream"
    )
    assert "bin-counter" in said
    assert "removed" in said
