"""What the Dockerfile's `serve` target makes, without a container engine: its environment, its commands, its tree."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.only_extras import only, train_extras
from tests.model_folder import make_model, make_photo
from tests.serve.stand_in import ROOT, Server, free_port

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_what_the_images_install_and_start() -> None:
    extras = json.loads(
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import json, tomllib; "
                "print(json.dumps(tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']))",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    for wanted in re.findall(r"'\.\[([a-z,]+)\]'", DOCKERFILE):
        assert set(wanted.split(",")) <= set(extras)
    assert DOCKERFILE.count('ENTRYPOINT ["bintally"]') == 2
    assert "USER" not in DOCKERFILE  # the services run images as root
    copied = set((ROOT / ".dockerignore").read_text().split())
    for name in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE):
        assert all(f"!{one}" in copied for one in name.split())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds what the `serve` target installs, and no more."""
    folder = tmp_path_factory.mktemp("serve-image")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).exists():
            shutil.copyfile(ROOT / name, source / name)
    shutil.copytree(ROOT / "bintally", source / "bintally", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(folder / "venv" / "bin" / "pip"), "install", "-q", "-c", str(source / "constraints.txt")]
    subprocess.run([*pip, f"{source}[serve]"], check=True, cwd=folder)
    shutil.rmtree(source)
    return folder / "venv" / "bin"


@pytest.fixture
def opt_ml(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "opt" / "ml"
    make_model(root / "model")
    (root / "model").chmod(0o555)
    yield root
    (root / "model").chmod(0o755)


def test_what_the_train_image_lacks_is_not_found(tmp_path: Path) -> None:
    code = "import bintally, torch, boto3; from importlib.util import find_spec; print(find_spec('optuna'))"
    environ = {**os.environ, **only(tmp_path, *train_extras())}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "None\n", done.stderr  # tests/contract/test_container.py carries a job out there


@pytest.mark.slow
def test_the_serve_image_without_an_engine(environment: Path, opt_ml: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        # Not `python -m`, not from the checkout: the installed program alone.
        return subprocess.run([str(environment / words[0]), *words[1:]], capture_output=True, text=True, cwd=tmp_path)

    assert run("python", "-c", "import torch").returncode != 0
    assert run("python", "-c", "import fastapi").returncode != 0
    image = tmp_path / "bin.jpg"
    image.write_bytes(make_photo())
    count = run("bintally", "count", str(image), "--model", str(opt_ml / "model"), "--json")
    assert count.returncode == 0, count.stderr
    port, log = free_port(), tmp_path / "log"
    environ = {**os.environ, "BINTALLY_OPT_ML": str(opt_ml), "SAGEMAKER_BIND_TO_PORT": str(port)}
    with log.open("ab") as out:
        process = subprocess.Popen([str(environment / "bintally"), "serve"], env=environ, stderr=out, cwd=tmp_path)
    server = Server(process, port, log)
    try:
        server.wait_for("ready", seconds=180)
        assert httpx.get(f"{server.url}/ping").status_code == 200
        assert httpx.get(f"{server.url}/").status_code == 200  # the page is installed with it
        predict = run("bintally", "predict", server.url, str(image), "--json")
        assert predict.returncode == 0, predict.stderr
        assert json.loads(predict.stdout)["count"] == json.loads(count.stdout.splitlines()[0])["count"]
        assert server.stop(signal.SIGTERM) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    train = run("bintally", "train", "nothing.parquet", "--recipe", "seed", "--to", "run")
    assert train.returncode == 1
    assert "pip install 'bintally[" in train.stderr  # one line that names the extra, no traceback
