"""The program: its verbs in one place, and what a person sees when one of them fails."""

import os
import sys
import traceback
from typing import Annotated

import typer

from bintally import __version__
from bintally.cli import (
    cloud,
    console,
    data,
    demo,
    ensemble,
    examine,
    learn,
    profile,
    push,
    report,
    serve,
    soup,
    tune,
    watch,
)
from bintally.errors import BintallyError, MissingExtraError

app = typer.Typer(
    name="bintally",
    help="Counts the items in bin photos, says how sure it is, and holds the count against the record.",
    epilog="Start with `bintally demo`: the whole way on drawn bins, offline, in a few minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for room in (data, push, learn, soup, ensemble, examine, tune, watch, profile, serve, cloud, report, demo):
    app.add_typer(room.commands)

EXTRAS = {
    **dict.fromkeys(("obstore", "pyarrow", "imagehash"), "data"),
    **dict.fromkeys(("matplotlib", "jinja2"), "report"),
    **dict.fromkeys(
        ("torch", "lightning_fabric", "transformers", "safetensors", "huggingface_hub", "filelock"), "train"
    ),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime", "nncf"), "export"),
    **dict.fromkeys(
        ("starlette", "uvicorn", "uvloop", "httptools", "httpx", "prometheus_client", "multipart"), "serve"
    ),
    "openvino": "count",
    "cleanlab": "examine",
    "optuna": "tune",
    "psutil": "profile",
    "typst": "pdf",
    **dict.fromkeys(("boto3", "botocore"), "cloud"),
}
"""Which extra brings a library: what a verb that lacks it tells its user to install."""


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        console.out(f"bintally {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.out(context.get_help())


_STOPPED = "stopped; what was finished is kept, and the same command goes on from there"


def main() -> None:
    """Runs the program. One line on standard error for every failure; exit code 1, or 2 for usage and settings."""
    try:
        app()
    except BintallyError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail(_STOPPED, 130)
    except SystemExit as end:
        if end.code == 130:  # typer has made that of Ctrl-C, without a word
            _fail(_STOPPED, 130)
        raise
    except BrokenPipeError:
        # The reader of our output went away (`bintally … | head`): no failure of ours, and nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:  # noqa: BLE001 - the last resort: a mistake of ours is still told in one line
        missing = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing in EXTRAS:
            _fail(str(MissingExtraError(missing, EXTRAS[missing])), 1)
        if os.environ.get("BINTALLY_DEBUG"):
            traceback.print_exc()
        _fail(
            f"this is a mistake in bintally: {type(error).__name__}: {error} "
            "(BINTALLY_DEBUG=1 shows where; please report it)",
            1,
        )


def _fail(message: str, code: int) -> None:
    console.error(message)
    raise SystemExit(code)
