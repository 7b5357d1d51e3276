"""The house rules of docs/decisions/0001-the-house.md, held against the code's own imports."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bintally

PACKAGE = Path(bintally.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# A room → the rooms of ours that it may import beside the root and itself.
ROOMS = {
    "root": set(),
    "data": set(),
    "learn": {"data.manifest", "data.store"},
    "serve": set(),
    "report": set(),
    "cloud": {"data.store"},
}
HOME = {
    "root": {"numpy", "pydantic", "PIL", "simplejpeg"},
    "data": {"numpy", "pydantic", "PIL", "obstore", "pyarrow", "imagehash"},
    "learn": {
        *("numpy", "pydantic", "torch", "lightning_fabric", "transformers", "safetensors", "huggingface_hub"),
        *("PIL", "pyarrow", "optuna", "psutil", "filelock", "onnx", "onnxruntime", "openvino", "nncf", "mlflow"),
        "cleanlab",
    },
    "serve": {
        *(
            "numpy",
            "pydantic",
            "openvino",
            "onnxruntime",
            "starlette",
            "uvicorn",
            "prometheus_client",
        ),
        *(
            "httptools",
            "uvloop",
            "boto3",
            "botocore",
            "httpx",
            "PIL",
            "jinja2",
            "multipart",
            "anyio",
        ),
    },
    "report": {"numpy", "matplotlib", "jinja2", "PIL", "typst"},
    "cloud": {"pydantic", "boto3", "botocore", "starlette", "uvicorn", "httpx", "anyio", "optuna"},
}
NEVER = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    if parts == ("__main__.py",):
        return "cli"
    return parts[0] if len(parts) > 1 else "root"


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield from (
                (f"{module}.{alias.name}" for alias in node.names) if module.split(".")[0] == "bintally" else [module]
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_keep_to_the_rooms(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        first = name.split(".")[0]
        assert first not in NEVER, f"{path}: {name} would unpickle"
        if room == "cli":
            continue
        if first == "bintally":
            inner = name.removeprefix("bintally").lstrip(".")
            target = inner.split(".")[0]
            if (PACKAGE / target).is_dir() and target != room:
                assert room in ROOMS, f"{path}: unknown room"
                assert any(inner.startswith(allowed) for allowed in ROOMS[room]), f"{path}: {room} imports {name}"
        elif first not in sys.stdlib_module_names:
            assert first in HOME[room], f"{path}: {first} is not at home in {room}"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(p) != "cli"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert "print" not in calls


def test_no_file_of_odds_and_ends() -> None:
    names = {path.stem for path in FILES}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_opens_with_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, bintally.cli.app\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'obstore', 'transformers', 'matplotlib', 'openvino', 'pydantic'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"bintally --help would load {done.stderr}"


def test_every_module_has_its_tests() -> None:
    tests = Path(__file__).parent
    for path in FILES:
        if path.name.startswith("__") or room_of(path) == "cli":
            continue
        folder = tests / path.relative_to(PACKAGE).parent
        assert (folder / f"test_{path.stem}.py").is_file(), f"no tests for {path.relative_to(PACKAGE)}"


def test_nothing_calls_home() -> None:
    code = (
        "import sys, bintally, openvino, nncf\n"
        "forks = []\n"
        "sys.addaudithook(lambda event, _: forks.append(event) if event in {'os.fork', 'socket.connect'} else None)\n"
        "openvino.Core(); import time; time.sleep(0.2)\n"
        "sys.exit(f'{forks}' if forks or sys.modules.get('openvino_telemetry') else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
