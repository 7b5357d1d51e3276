"""Makes notebooks/pipeline.ipynb out of its source, pipeline.py, by running it from top to bottom.

    python notebooks/run.py                                  # runs it and writes notebooks/pipeline.ipynb
    python notebooks/run.py --set PHOTOS=600 --to /tmp/small.ipynb

The source is what is edited and reviewed; the notebook beside it is what is read, with its outputs. Cells have the same
ids each time, and no times of day are kept, so that a new run changes outputs alone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import jupyter_client
import jupytext
import nbclient
import nbformat

HERE = Path(__file__).parent
SOURCE = HERE / "pipeline.py"
NOTEBOOK = HERE / "pipeline.ipynb"
LONGEST_S = 900
"""A cell that takes longer than this hangs."""


def read_source(path: Path = SOURCE) -> nbformat.NotebookNode:
    """The notebook that a source in percent format is, without outputs."""
    notebook = jupytext.read(path)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for place, cell in enumerate(notebook.cells):
        cell.id = f"cell-{place:02d}"
    return notebook


def set_parameters(notebook: nbformat.NotebookNode, values: dict[str, str]) -> None:
    """Sets names in the cell that is tagged `parameters`, which is the one place for that.

    Raises:
        SystemExit: there is no such name in it.
    """
    (cell,) = [one for one in notebook.cells if "parameters" in one.metadata.get("tags", ())]
    for name, value in values.items():
        if name not in cell.source:
            raise SystemExit(f"the notebook has no parameter {name}")
        cell.source += f"\n{name} = {value}"


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Runs every cell in `folder`; outputs go into the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    resources = {"metadata": {"path": str(folder)}}
    with tempfile.TemporaryDirectory(prefix="nb-") as place:
        # Sockets in a folder of our own, not ports, which anyone on this machine could read.
        kernel = jupyter_client.AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{place}/k")
        client = nbclient.NotebookClient(notebook, kernel, timeout=LONGEST_S, resources=resources)
        client.execute(cleanup_kc=True)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def main() -> None:
    """Reads the words of the command line, runs, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, as Python")
    parser.add_argument("--to", type=Path, default=NOTEBOOK, help="the notebook to write")
    parser.add_argument("--folder", type=Path, help="where to run; default: a temporary folder")
    words = parser.parse_args()
    notebook = read_source()
    set_parameters(notebook, dict(word.split("=", 1) for word in words.set))
    with tempfile.TemporaryDirectory(prefix="bintally-notebook-") as name:
        folder = words.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            execute(notebook, folder)
        finally:
            nbformat.write(notebook, words.to)
    sys.stdout.write(f"{words.to}: {words.to.stat().st_size // 1000:,} kB\n")


if __name__ == "__main__":
    main()
