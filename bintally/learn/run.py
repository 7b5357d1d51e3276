"""The run folder: what `train` was asked, how far it is, and its best weights with their card."""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from torch import Tensor

from bintally import __version__, files
from bintally.card import CARD_FILE, ModelCard, write_card
from bintally.data.manifest import Manifest, digest_of, read_manifest, write_manifest
from bintally.errors import RunError
from bintally.learn.model import BACKBONE_FILE, WEIGHTS_FILE

RUN_FILE = "run.json"
SPLIT_FILE = "split.parquet"
HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"
CHECKPOINTS = "checkpoints"
CHECKPOINT = f"{CHECKPOINTS}/last.safetensors"
REFIT_CHECKPOINT = f"{CHECKPOINTS}/refit.safetensors"

Status = Literal["running", "stopped", "failed", "finished"]

_MAY_CHANGE = {"workers", "cache_mb", "checkpoint_every_steps", "checkpoint_every_seconds", "folder", "max_gb"}
"""Settings that change nothing in the result: a run goes on with others."""

_MAY_BEGIN = {"refit"}
"""Settings that ask for more once all else is done: a run goes on when they are switched on."""


def read_run(run: Path) -> dict[str, Any]:
    """What `run.json` of a run folder says.

    Raises:
        RunError: there is none, or it is damaged.
    """
    path = run / RUN_FILE
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{run} is no run of `bintally train`: it has no {RUN_FILE}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}; train again with --restart") from error
    if not isinstance(body, dict) or not {"status", "settings", "manifest"} <= body.keys():
        raise RunError(f"{path} is not what `bintally train` writes; train again with --restart")
    return body


def check_run(
    run: Path,
    settings: Mapping[str, Mapping[str, Any]],
    digest: str,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any] | None:
    """Looks at where a training is to go, and changes nothing.

    Args:
        run: the folder.
        settings: table → key → value of what is asked now.
        digest: the manifest's.
        defaults: what a setting stands for that the run does not name, since it was begun before there was one.

    Returns:
        What `run.json` says, or None when the folder is new or empty.

    Raises:
        RunError: the folder holds something else, or a run with other settings or photos.
    """
    if not (run / RUN_FILE).exists():
        # Names with a dot before them are what a process left that was killed while it wrote.
        if run.exists() and (not run.is_dir() or any(not one.name.startswith(".") for one in run.iterdir())):
            raise RunError(f"{run} holds something that is no run: name another folder with --to")
        return None
    body = read_run(run)
    for kind, what in (("soup", "averaged weights"), ("ensemble", "runs side by side")):
        if kind in body:
            raise RunError(f"{run} holds {what} (`bintally {kind}`): name another folder with --to")
    if body["manifest"].get("digest") != digest:
        raise RunError(f"{run} was trained on another manifest: name another folder with --to, or add --restart")

    def was(table: str, key: str) -> Any:
        without = (defaults or {}).get(table, {}).get(key)
        return body["settings"].get(table, {}).get(key, without)

    changed = [
        f"{table}.{key} was {was(table, key)!r}, now {value!r}"
        for table, values in settings.items()
        for key, value in values.items()
        if key not in _MAY_CHANGE and was(table, key) != value and not (key in _MAY_BEGIN and value)
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise RunError(
            f"{run} was trained with other settings ({'; '.join(changed[:3])}{more}): "
            "name another folder with --to, or add --restart"
        )
    return body


def clear_run(run: Path) -> None:
    """Removes what a run wrote, for `--restart`; a folder that holds no run is left alone."""
    if not (run / RUN_FILE).exists():
        return
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
    for name in (CARD_FILE, WEIGHTS_FILE, BACKBONE_FILE, SPLIT_FILE, HISTORY_FILE, CURVES_FILE, RUN_FILE):
        (run / name).unlink(missing_ok=True)


def start_run(
    run: Path, settings: Mapping[str, Mapping[str, Any]], manifest: Manifest, facts: Mapping[str, Any]
) -> None:
    """Makes a new run's folder and writes `run.json`.

    Raises:
        RunError: the folder cannot be made.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make the run folder {run}: {error.strerror}; name another with --to") from error
    body = {
        "status": "running",
        "code_version": __version__,
        "settings": settings,
        "manifest": {"digest": manifest.digest or digest_of(manifest), "root": str(manifest.root)},
        **facts,
    }
    files.write_json(run / RUN_FILE, body)  # first: what is in the folder from here on is a run


def keep_manifest(run: Path, manifest: Manifest) -> None:
    """Writes the manifest that a run trains on beside it, once, and again when the photos have moved.

    The parts of one that is there stay as they are: a run that was trained again on two of them has joined them.
    """
    path = run / SPLIT_FILE
    there = read_manifest(path) if path.exists() else None
    if there is None:
        write_manifest(path, manifest)
    elif there.root != manifest.root.resolve():
        write_manifest(path, dataclasses.replace(there, root=manifest.root))


def note_run(run: Path, status: Status, **facts: Any) -> None:
    """Puts a status and facts into `run.json`."""
    files.write_json(run / RUN_FILE, {**read_run(run), "status": status, **facts})


def write_history(run: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes `history.csv`: one line an epoch. Figures stand as Python writes them: nothing is rounded."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    files.write_text(run / HISTORY_FILE, out.getvalue())


def save_best(run: Path, state: Mapping[str, Tensor], config: Mapping[str, Any], card: ModelCard) -> ModelCard:
    """Writes the best weights so far, the backbone's configuration and, last, their card.

    Returns:
        The card with the files' hashes.
    """
    flat = {name: value.detach().float() if value.is_floating_point() else value for name, value in state.items()}
    files.write_bytes(run / WEIGHTS_FILE, save({name: value.contiguous().cpu() for name, value in flat.items()}))
    files.write_json(run / BACKBONE_FILE, dict(config))
    hashes = {name: files.sha256_of(run / name) for name in (WEIGHTS_FILE, BACKBONE_FILE)}
    done = dataclasses.replace(card, files=hashes)
    write_card(run, done)
    return done


def finish_run(run: Path, **facts: Any) -> None:
    """Marks a run as finished and removes its checkpoints, which nothing needs any more."""
    note_run(run, "finished", **facts)
    with contextlib.suppress(OSError):
        shutil.rmtree(run / CHECKPOINTS)
