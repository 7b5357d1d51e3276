"""Runs made of other runs: what soups and ensembles have in common."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bintally import __version__, files
from bintally.card import BEFORE_REFIT, ModelCard
from bintally.data.manifest import Manifest, write_manifest
from bintally.errors import RunError, SettingsError
from bintally.learn import run as run_folder
from bintally.learn.model import CountModel

Tried = tuple[tuple[Path, ...], dict[str, float]]
"""Runs that were scored together, and their figures on the validation part; none where all have learnt from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """What came of it.

    Attributes:
        run: the folder.
        card: of the model made.
        taken: the runs that are in it.
        tried: for each set of runs that was scored, the runs and their figures on the validation part.
    """

    run: Path
    card: ModelCard
    taken: tuple[Path, ...]
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """A run that is to be made of others.

    Attributes:
        kind: "soup" or "ensemble": under this name `run.json` tells of it.
        runs: what it is made of.
        to: the folder to make.
        settings: how; a dataclass.
        started: of the monotonic clock.
    """

    kind: str
    runs: tuple[Path, ...]
    to: Path
    settings: Any
    started: float

    @classmethod
    def begin(cls, kind: str, runs: Sequence[Path], to: Path, settings: Any, *, force: bool) -> "Making":
        """Checks what can be checked before any run is read.

        Raises:
            RunError: `to` holds something.
            SettingsError: no run, or one twice.
        """
        _check_target(to, force=force)
        if len({run.resolve() for run in runs}) < len(runs) or not runs:
            raise SettingsError("name each run once, and at least one")
        return cls(kind=kind, runs=tuple(runs), to=to, settings=settings, started=time.monotonic())

    def check_fit(self, run: Path, first: ModelCard, card: ModelCard) -> None:
        """Raises RunError when a run's card says that it does not fit the first one's."""
        named = {
            "counts": "range of counts",
            "pixels": "input",
            "head": "head",
            "manifest_digest": "split, or one is refit",
        }
        for name, what in named.items():
            if getattr(first, name) != getattr(card, name):
                raise RunError(f"{self.runs[0]} and {run} do not go together: they differ in their {what}")

    def finish(
        self,
        model: CountModel,
        card: ModelCard,
        manifest: Manifest,
        taken: Mapping[Path, str],
        tried: Sequence[Tried],
        note: str,
    ) -> Combined:
        """Writes the run folder, which appears whole or not at all.

        Args:
            model: with the weights to be written.
            card: of the first run, with what differs for the new one.
            manifest: the split.
            taken: the runs that are in it, with their model ids.
            tried: what was scored, the figures of `taken` among it.
            note: a line for the card, behind which it is told of how many runs.
        """
        found = next(figures for those, figures in tried if set(those) == set(taken))
        method = self.settings.method
        done = replace(
            card,
            calibration=None,
            metrics={"validation" if found else BEFORE_REFIT: found}
            | {self.kind: {"runs": [str(run) for run in taken], "method": method}},
            code_version=__version__,
            notes=(*card.notes, f"{note} {len(taken)} of {len(self.runs)} runs ({method})"),
        )
        about = {
            "status": "finished",
            "code_version": __version__,
            "settings": {self.kind: asdict(self.settings)},
            "manifest": run_folder.read_run(self.runs[0])["manifest"],
            self.kind: {
                "taken": [{"run": str(run), "model_id": model_id} for run, model_id in taken.items()],
                "tried": [{"runs": [str(run) for run in those], **figures} for those, figures in tried],
            },
            "seconds": round(time.monotonic() - self.started, 1),
        }
        with files.replacing_folder(self.to) as part:
            files.write_json(part / run_folder.RUN_FILE, about)
            write_manifest(part / run_folder.SPLIT_FILE, manifest)
            config: Any = model.backbone.config
            done = run_folder.save_best(part, model.state_dict(), config.to_dict(), done)
        return Combined(run=self.to, card=done, taken=tuple(taken), tried=tuple(tried))


def choose(
    runs: Sequence[Path], score: Callable[[Sequence[Path]], dict[str, float]], *, greedy: bool, judged: bool
) -> tuple[tuple[Path, ...], list[Tried]]:
    """Which runs to take.

    Args:
        runs: to choose from.
        score: figures of some of them together, on the validation part.
        greedy: from the best on, each next one is taken in when the negative log-likelihood does not get worse;
            otherwise all are taken.
        judged: whether there is a validation part to score on: runs that were refit have learnt from it.

    Returns:
        The runs that are taken, and all that was scored; with no figures where there is nothing to score on.

    Raises:
        SettingsError: a choice is asked, and there is nothing to choose by.
    """
    if not judged:
        if greedy and len(runs) > 1:
            raise SettingsError(
                f"{runs[0]} and the others learnt from the validation part as well (train.refit): there is nothing to choose "
                "by; take all of them (--method uniform of a soup, --method all of an ensemble)"
            )
        return tuple(runs), [(tuple(runs), {})]
    if not greedy or len(runs) == 1:
        return tuple(runs), [(tuple(runs), score(runs))]
    tried: list[Tried] = [((run,), score([run])) for run in runs]
    (taken, found), *others = sorted(tried, key=lambda one: one[1]["nll"])
    least = found["nll"]
    for (run, *_), _ in others:
        those = (*taken, run)
        its = score(those)
        tried.append((those, its))
        if its["nll"] <= least:
            taken, least = those, its["nll"]
    return taken, tried


def _check_target(to: Path, *, force: bool) -> None:
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return
    if not force:
        raise RunError(f"{to} exists: name another folder with --to, or replace it with --force")
    if not (to / run_folder.RUN_FILE).is_file():
        raise RunError(f"{to} is no run folder: --force replaces only those; name another folder with --to")
