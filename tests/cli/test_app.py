"""The program as a whole: its version, its help, how it fails, and that what is written down of it is so."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import typer.main

import bintally
from bintally.cli.app import EXTRAS, app, main

ROOT = Path(__file__).parents[2]
PACKAGE = Path(bintally.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bintally", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def verbs(command: Any = None, name: str = "bintally") -> Iterator[tuple[str, Any]]:
    """Every verb by its whole name, those of groups too."""
    command = command or typer.main.get_command(app)
    for word, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, f"{name} {word}") if hasattr(inner, "commands") else [(f"{name} {word}", inner)]


def test_the_program_says_which_it_is() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"bintally {bintally.__version__}\n")
    assert bintally.__version__ == PROJECT["project"]["version"]


def test_a_failure_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    done = run("fetch", str(tmp_path / "none"), "--to", str(tmp_path / "to"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'none'}: the folder does not exist\n"
    done = run("split", str(tmp_path), "--to", "x", "--fractions", "60/40")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_mistake_of_ours_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("bintally.cli.app.app", broken)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this is a mistake in bintally: ZeroDivisionError: two lines (BINTALLY_DEBUG=1")


def test_a_library_that_is_not_there_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking() -> None:
        raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow.parquet")

    monkeypatch.setattr("bintally.cli.app.app", lacking)
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "error: pyarrow is not installed: pip install 'bintally[data]'\n"


def test_every_library_that_may_be_missing_names_its_extra() -> None:
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
    base = {"bintally", "numpy", "pydantic", "PIL", "simplejpeg", "typer", "rich", "click"}
    told_where_they_are_used = {"mlflow", "tensorboard", "alembic", "sqlalchemy"}
    needed = {name for name in names if name not in sys.stdlib_module_names} - base - told_where_they_are_used
    assert needed - set(EXTRAS) == set(), "bintally.cli.app.EXTRAS does not say what to install for these"
    assert set(EXTRAS.values()) <= set(PROJECT["project"]["optional-dependencies"])


def test_a_reader_that_goes_away_hears_no_complaint() -> None:
    line = f"{shlex.quote(sys.executable)} -m bintally --help | head -1"
    assert subprocess.run(line, shell=True, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize(("name", "command"), [pytest.param(*one, id=one[0]) for one in verbs()])
def test_every_verb_has_an_example_that_it_takes(name: str, command: Any) -> None:
    example = re.search(r"Example: (bintally .*?)(?:\n\s*\n|$)", command.help or "", re.DOTALL)
    assert example, f"{name} --help gives no example"
    words = example[1].split()
    assert " ".join(words).startswith(name)
    command.make_context(name, words[len(name.split()) :])


def commands(page: Path) -> Iterator[str]:
    inside = False
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            yield from (one.strip() for one in line.split("&&") if one.strip().startswith("bintally "))


WRITTEN = sorted({(page.name, words) for page in PAGES for words in commands(page)})


@pytest.mark.parametrize(("page", "words"), WRITTEN, ids=[f"{page}: {words}" for page, words in WRITTEN])
def test_what_the_pages_give_to_copy_is_what_the_program_takes(page: str, words: str) -> None:
    rest = shlex.split(words.partition(" > ")[0], comments=True)[1:]
    if not rest or {"…", "[…]"} & set(rest):
        return
    command: Any = typer.main.get_command(app)
    while rest and hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)


def test_pages_link_to_what_there_is() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_what_is_no_code_is_packaged_too() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["bintally"]
    others = [PurePosixPath(path.relative_to(PACKAGE).as_posix()) for path in PACKAGE.rglob("*") if path.is_file()]
    others = [path for path in others if path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")]
    assert PurePosixPath("py.typed") in others
    assert [str(path) for path in others if not any(path.match(one) for one in patterns)] == []


def test_the_licences_are_told() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert PROJECT["project"]["license"] == "Apache-2.0"
    for words in ("Apache-2.0", "CC BY-NC-SA 3.0 US"):
        assert words in readme
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:200]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # These tests may themselves be run by make, which tells its children how it was called.
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def test_make_takes_torch_from_where_it_is_told() -> None:
    done = make("-n", "demo", "TORCH_INDEX=https://torch.example/cpu", "VENV=/nowhere/venv")
    assert done.returncode == 0, done.stderr
    assert re.search(r"pip install .* torch==\S+ --index-url https://torch\.example/cpu", done.stdout)
    assert "/nowhere/venv/bin/bintally demo" in done.stdout


def test_make_does_over_again_only_what_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("bin/python", ".installed-train", ".installed-dev"):
        (tmp_path / name).touch()
    for target, program in (("demo", "bintally demo"), ("test", "python -m pytest")):
        (line,) = make("-n", target, f"VENV={tmp_path}").stdout.splitlines()
        assert f"{tmp_path}/bin/{program}" in line


def test_an_environment_that_cannot_be_made_is_said_and_not_taken_for_one(tmp_path: Path) -> None:
    done = make("demo", f"VENV={tmp_path / 'venv'}", "PYTHON=false")
    assert done.returncode == 2
    assert "bintally needs Python 3.11 or newer" in done.stderr
    half = tmp_path / "python"  # as Debian's without ensurepip
    half.write_text(
        f"#!/bin/sh\n[ $1 = -c ] && exit 0\nmkdir -p {tmp_path}/venv/bin; touch {tmp_path}/venv/bin/python; exit 1\n"
    )
    half.chmod(0o755)
    done = make("demo", f"VENV={tmp_path / 'venv'}", f"PYTHON={half}")
    assert done.returncode == 2
    assert "python3-venv" in done.stderr
    assert not (tmp_path / "venv/bin/python").exists()
