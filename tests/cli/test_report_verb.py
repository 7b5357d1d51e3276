"""`bintally report`, over a run that was only trained and over one to which everything was done."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bintally.cli.app import app
from bintally.data.draw import DrawSettings, draw_store
from bintally.data.manifest import build_manifest, write_manifest
from bintally.data.split import SplitSettings, split_manifest
from bintally.errors import RunError
from tests.report import made

QUICK = [*("--set", "pixels.size=32"), *("--set", "train.threads=1"), *("--set", "train.batch_size=16")]


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def bins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn bins with a split over them."""
    folder = tmp_path_factory.mktemp("drawn") / "bins"
    draw_store(folder, DrawSettings(num_photos=90, size=48, seed=1))
    write_manifest(folder / "split.parquet", split_manifest(build_manifest(folder), SplitSettings()))
    return folder


def missing(page: str) -> list[str]:
    return re.findall(r'class="missing">[^<]*<code>bintally ([\w-]+ ?\w*)', page)


def test_a_run_that_was_only_trained(tmp_path: Path, bins: Path) -> None:
    run = made.trained(tmp_path / "run")
    shutil.copy(bins / "split.parquet", run / "split.parquet")
    said = call("report", run, "--photos", bins)
    assert said == f"page: {run / 'report.html'}\n"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert missing(page) == [
        *("tune RECIPE", "train ", "profile RECIPE", "evaluate ", "evaluate ", "cloud status"),
    ]
    assert "90" in page
    assert page.count("<img") > 20  # the contact sheet: its photos were found by the ids
    assert "abid_challenge" in page
    assert "Always answering" in page


def test_photos_that_are_elsewhere_are_asked_for(tmp_path: Path, bins: Path) -> None:
    run = made.trained(tmp_path / "run")
    shutil.copy(bins / "split.parquet", run / "split.parquet")  # its photos would lie in run/bin-images
    call("report", run, "--to", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The photos are not where the run found them" in page
    assert not (run / "report.html").exists()


def test_a_pdf_stands_beside_the_page(tmp_path: Path) -> None:
    run = made.trained(tmp_path / "run")
    said = call("report", run, "--pdf", "--to", tmp_path / "here.html")
    assert f"pdf: {tmp_path / 'here.pdf'}" in said
    assert (tmp_path / "here.pdf").read_bytes().startswith(b"%PDF-")


def test_jobs_get_the_price_of_their_billed_time(tmp_path: Path) -> None:
    run = made.trained(tmp_path / "run")
    job = {"kind": "training", "name": "bintally-seed", "status": "Completed", "billed_seconds": 7200}
    (tmp_path / "job.json").write_text(json.dumps(job | {"instance": "ml.m5.xlarge", "instances": 2, "spot": True}))
    (run / "job.json").write_text(json.dumps(job | {"instance": "ml.of.my.own", "instances": None}))
    call("report", run, "--job", tmp_path / "job.json")
    page = (run / "report.html").read_text(encoding="utf-8")
    (price,) = re.findall(r"<td>([\d.]+)</td>", page.split('id="cost"')[1].split("</table>")[0])
    hour = re.search(r'"ml\.m5\.xlarge" = ([\d.]+)', _prices())
    assert hour
    assert float(price) == pytest.approx(4 * float(hour[1]), abs=0.006)
    assert "2 × ml.m5.xlarge, spare capacity, Completed" in page
    call("report", run)  # the job beside the run, whose machine has no price
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "1 × ml.of.my.own, Completed" in page
    assert "by a table of prices" not in page


def _prices() -> str:
    from importlib import resources

    return (resources.files("bintally") / "cloud" / "prices.toml").read_text(encoding="utf-8")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run of"):
        call("report", tmp_path)


@pytest.mark.slow
def test_a_run_to_which_everything_was_done(tmp_path: Path, bins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    split, run, tuning = bins / "split.parquet", tmp_path / "run", tmp_path / "tuning"
    space = tmp_path / "search.toml"
    space.write_text("[train]\nhead_lr = { low = 1e-3, high = 1e-2, log = true }\n", encoding="utf-8")
    trials = ("--trials", 2, "--top", 1, "--repeat", 0, "--workers", 1, "--pruner", "none")
    call("tune", "demo", split, "--to", tuning, "--space", space, *trials, "--epochs", 1, *QUICK)
    call("train", split, "--recipe", "demo", "--epochs", 2, "--watch", "--set", "watch.every=2", "--to", run, *QUICK)
    call("evaluate", run, "--set", "evaluate.resamples=100", "--set", "evaluate.simulations=100")
    quick = ("--steps", 3, "--no-try", "--set", "profile.warmup=1", "--set", "profile.traced=0")
    call("profile", "demo", split, "--to", run / "profile", *quick, *QUICK)
    call("report", run, "--tune", tuning, "--pdf", "--photos", split)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert missing(page) == ["cloud status"]
    for said in ("train.head_lr", "The training was watched", "photos/s trained", "Brier score", "By chance"):
        assert said in page, said
    assert (run / "report.pdf").stat().st_size > 50_000
