"""An environment that holds only what some extras of ours bring, made of this one: the rest is not to be found."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

# Found by Python before anything else runs. What is hidden is not found, rather than refused: libraries look for others.
HIDE = """
import json, os, sys
from importlib.machinery import PathFinder
hidden = set(json.load(open(os.environ["BINTALLY_TEST_HIDDEN"])))
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Hiding if one is PathFinder else one for one in sys.meta_path]
"""


def brought_by(*extras: str) -> set[str]:
    """The distributions that `pip install bintally[…]` brings, and what they need in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: set[str] = set()
    waiting = [Requirement(f"bintally[{','.join(extras)}]")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if (name, frozenset(asked.extras)) in seen:
            continue
        seen.add((name, frozenset(asked.extras)))
        found.add(name)
        if name == "bintally":
            optional = project["optional-dependencies"]
            needs = project["dependencies"] + [line for extra in asked.extras for line in optional[extra]]
        else:
            try:
                needs = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # for another platform
        for line in needs:
            one = Requirement(line)
            wanted = [{"extra": extra} for extra in (*asked.extras, "")]
            if one.marker is None or any(one.marker.evaluate(environment) for environment in wanted):
                waiting.append(one)
    return found


def train_extras() -> list[str]:
    """Those that the Dockerfile's `train` target installs."""
    target = (ROOT / "Dockerfile").read_text(encoding="utf-8").partition("AS train")[2]
    found = re.search(r"'\.\[([a-z,]+)\]'", target)
    assert found is not None
    return found[1].split(",")


def only(folder: Path, *extras: str) -> dict[str, str]:
    """Environment variables with which Python finds nothing but itself, us, and what these extras bring."""
    kept = brought_by(*extras)
    modules = importlib.metadata.packages_distributions()
    hidden = [name for name, homes in modules.items() if not kept & {canonicalize_name(home) for home in homes}]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hidden.json").write_text(json.dumps(hidden))
    (folder / "sitecustomize.py").write_text(HIDE)
    return {"PYTHONPATH": str(folder), "BINTALLY_TEST_HIDDEN": str(folder / "hidden.json")}
