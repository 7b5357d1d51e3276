"""Reads what the stages wrote about a run: the material of its report, whatever of it is there."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bintally.card import CARD_FILE, ModelCard, read_card
from bintally.errors import RunError
from bintally.report.curves import read_history
from bintally.report.evaluation import read_evaluation
from bintally.report.tune import read_trials

ReadPhoto = Callable[[str], bytes | None]
"""Gives the bytes of a photo by its id, or None where it is not at hand."""

Found = Mapping[str, Any]

RUN_FILE = "run.json"
SPLIT_FILE = "split.parquet"
HISTORY_FILE = "history.csv"
EVALUATION = "evaluation"
WATCH = "watch"
TUNE = "tune"
PROFILE = "profile"
JOB_FILE = "job.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that a report is made from. What is None or empty was not done, or is not at hand.

    Attributes:
        run: the run's folder.
        about: run.json.
        card: the model's card.
        history: rows of history.csv.
        data: what `bintally summary --json` says of the run's split.
        evaluation: evaluation.json of the test part.
        verdicts: rule → verdict of the watched training.
        checks: records of watch/checks.jsonl.
        validations: records of watch/validations.jsonl.
        tune: tune.json.
        trials: lines of trials.csv.
        profile: profile.json.
        jobs: what `bintally cloud status --json` says of the managed jobs that it was made by, each with "usd" where
            there is a price for it.
        published: what others published, as the evaluation keeps it.
        read_photo: gives photos by id.
    """

    run: Path
    about: Found
    card: ModelCard | None = None
    history: Sequence[Mapping[str, float]] = ()
    data: Found | None = None
    evaluation: Found | None = None
    verdicts: Mapping[str, Found] = field(default_factory=dict)
    checks: Sequence[Found] = ()
    validations: Sequence[Found] = ()
    tune: Found | None = None
    trials: Sequence[Mapping[str, str]] = ()
    profile: Found | None = None
    jobs: Sequence[Found] = ()
    published: Sequence[Found] = ()
    read_photo: ReadPhoto = lambda _: None


def gather(
    run: Path,
    *,
    tune: Path | None = None,
    profile: Path | None = None,
    jobs: Sequence[Path] = (),
    data: Found | None = None,
    published: Sequence[Found] = (),
    read_photo: ReadPhoto = lambda _: None,
) -> Material:
    """Reads a run's folder and what lies beside it.

    Args:
        run: the run's folder, or the unpacked output of a managed job.
        tune: a tuning's folder; RUN/tune by default, when there is one.
        profile: a profile's folder; RUN/profile by default, when there is one.
        jobs: files of `bintally cloud status --json`; RUN/job.json by default, when there is one.
        data: the summary of its split.
        published: published results; those that the evaluation kept win.
        read_photo: gives photos by id.

    Raises:
        RunError: the folder holds no run, or something that was asked for by name is not there or damaged.
    """
    about = _json(run / RUN_FILE)
    if about is None:
        raise RunError(f"{run} is no run of `bintally train`: it has no {RUN_FILE}")
    evaluation = read_evaluation(run / EVALUATION) if (run / EVALUATION / "evaluation.json").is_file() else None
    tuning = _tuning(tune, run / TUNE)
    own_job = (run / JOB_FILE,) if (run / JOB_FILE).is_file() else ()
    return Material(
        run=run,
        about=about,
        card=read_card(run, check_files=False) if (run / CARD_FILE).is_file() else None,
        history=read_history(run / HISTORY_FILE) if (run / HISTORY_FILE).is_file() else (),
        data=data,
        evaluation=evaluation,
        verdicts=_verdicts(run / WATCH),
        checks=[_CHECK | one for one in _lines(run / WATCH / "checks.jsonl")],
        validations=_lines(run / WATCH / "validations.jsonl"),
        tune=tuning[0],
        trials=tuning[1],
        profile=_asked(profile, run / PROFILE, "profile.json", "profile"),
        jobs=[found for path in jobs or own_job if (found := _whole(path, "bintally cloud status --json"))],
        published=evaluation["published"] if evaluation else published,
        read_photo=read_photo,
    )


def _tuning(asked: Path | None, usual: Path) -> tuple[Found | None, Sequence[Mapping[str, str]]]:
    found = _asked(asked, usual, "tune.json", "tune")
    return found, read_trials(asked or usual) if found is not None else ()


def _asked(asked: Path | None, usual: Path, name: str, verb: str) -> Found | None:
    if asked is not None:
        return _whole(asked / name, f"bintally {verb}")
    return _json(usual / name)


def _whole(path: Path, verb: str) -> Found:
    found = _json(path)
    if found is None:
        raise RunError(f"there is no {path}: `{verb}` writes it")
    return found


def _json(path: Path) -> Found | None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged: it holds no table of values")
    return found


def _verdicts(folder: Path) -> dict[str, Found]:
    """Rule → verdict; files of other names that lie there are none of ours."""
    found = {path.stem: _json(path) or {} for path in sorted(folder.glob("*.json"))}
    return {name: one for name, one in found.items() if "RuleTriggered" in one and "Details" in one}


_CHECK: dict[str, Any] = {name: {} for name in ("gradients", "updates", "activations", "dead_relus")}
"""What records of another version may lack."""


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for place, line in enumerate(lines):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if place < len(lines) - 1:  # the last one may be half-written by a training that is under way
                raise RunError(f"{path} is damaged in line {place + 1}: {error}") from error
    return found
