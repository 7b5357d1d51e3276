"""Profiling a training: where a step's time goes, what the machine does meanwhile, and what makes it faster, tried."""

import dataclasses
import gzip
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from bintally import files, settings
from bintally.data.manifest import Manifest
from bintally.errors import UsageError
from bintally.learn.attempts import try_levers
from bintally.learn.device import pick_device, pick_precision
from bintally.learn.levers import Measured, choose
from bintally.learn.material import TrainingData
from bintally.learn.measure import PHASES, TRACE_FILE, Measurement, ProfileSettings, measure, one_process
from bintally.learn.profiler_report import profiler_report
from bintally.learn.profiler_rules import load_profiler_rules
from bintally.learn.recipe import Recipe
from bintally.learn.recording import ProfilerRule, StepTime, usage
from bintally.learn.sampling import Sample, percentile
from bintally.learn.watch import write_report
from bintally.progress import Progress, Silent

PROFILE_FILE = "profile.json"

_LARGE_TRACE = 8 << 20


def profile(
    manifest: Manifest,
    recipe: Recipe,
    to: Path,
    how: ProfileSettings | None = None,
    *,
    rules: Mapping[str, ProfilerRule] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Profiles the training of a recipe, by the code that trains.

    Args:
        manifest: with parts. As many training photos are used as the measured steps need.
        recipe: what would be trained; one process of it.
        to: the folder for `profile.json`, `<Rule>.json` and the Chrome trace (open it in chrome://tracing or
            https://ui.perfetto.dev).
        how: how much is measured; `tries=0` tries nothing.
        rules: the profiler rules; the familiar ones by default.
        progress: is told how far it is.

    Returns:
        What `profile.json` holds; seconds are those of one step, in the mean, unless they say otherwise.

    Raises:
        ManifestError: no split, or parts that nothing can be learnt from.
        UsageError: `to` is a file.
        RunStoppedError: SIGTERM or SIGINT came.
    """
    how, progress = how or ProfileSettings(), progress or Silent()
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file: name a folder")
    data, recipe = TrainingData.of(manifest), one_process(recipe)
    with tempfile.TemporaryDirectory(prefix="bintally-profile-") as name:
        scratch = Path(name)
        base = measure(data, recipe, how, how.steps, "measuring", progress, scratch, traced=how.traced, sampled=True)
        levers = choose(recipe, _facts(data, recipe, how, base))
        tried, together = try_levers(data, recipe, how, base, levers, progress, scratch)
    found = _summary(data, recipe, how, base)
    verdicts = profiler_report(load_profiler_rules() if rules is None else rules, base.recording)
    found |= {"advice": tried, "together": together, "headline": headline(found, tried, together)}
    found |= {"rules": verdicts, "trace": _write_trace(to, base.trace) if base.trace else None}
    found |= {"steps": [_rounded(step) for step in base.recording.steps]}
    found |= {"samples": [_rounded(sample) for sample in base.samples]}
    write_report(to, verdicts)
    files.write_json(to / PROFILE_FILE, found)
    return found


def headline(found: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], together: Mapping[str, Any] | None) -> str:
    """What to change first, in a sentence."""
    paid = [one for one in tried if one["verdict"] == "pays"]
    if together and together["verdict"] == "pays" and together["times"] > max(one["times"] for one in paid):
        return f"Change {together['line']}"
    if paid:
        return f"Change {max(paid, key=lambda one: float(one['times']))['line']}"
    if tried and tried[0]["verdict"] == "not tried":
        return f"Change {tried[0]['line']}"
    largest = max(found["phases"], key=lambda name: float(found["phases"][name]["share"]))
    most = f"{largest.replace('_', ' ')} takes {found['phases'][largest]['share']:.0%} of a step"
    if tried:
        num = sum(one["verdict"] != "not tried" for one in tried)
        what = "the one lever tried did not pay" if num == 1 else f"none of {num} levers tried paid"
        return f"Change nothing: {what}; {most}."
    return f"Change nothing: no lever on the list promises anything here; {most}."


def _summary(data: TrainingData, recipe: Recipe, how: ProfileSettings, run: Measurement) -> dict[str, Any]:
    steps, seconds = run.recording.steps, run.seconds
    times = [step.seconds for step in steps]
    phases = {name: sum(getattr(step, name) for step in steps) for name in PHASES}
    decode_ms = 1000 * run.decode_seconds / run.decoded if run.decoded else None
    in_advance = run.photos / run.prefill_seconds if run.in_memory and run.prefill_seconds else None
    return {
        "recipe": recipe.tables(),
        "device": pick_device(recipe.train.device),
        "precision": pick_precision(recipe.train),
        "cores": run.recording.cores,
        "torch_threads": run.threads,
        "training_photos": len(data.train_paths),
        "batch_size": run.batch_size,
        "measured_steps": len(steps),
        "source": "kept activations" if run.kept else "memory" if run.in_memory else "disk",
        "photos_per_second": round(run.rate, 2),
        "step_seconds": {
            "mean": round(seconds / len(steps), 5),
            "p50": round(percentile(times, 50), 5),
            "p95": round(percentile(times, 95), 5),
            "max": round(max(times), 5),
        },
        "phases": {
            name: {"seconds": round(value / len(steps), 5), "share": round(value / seconds, 4)}
            for name, value in phases.items()
        },
        "loader": {
            "workers": run.recording.workers,
            "share": round(run.loader_seconds / seconds, 4),
            "photos_per_second": _maybe(run.loader_photos / run.loader_seconds if run.loader_seconds else None),
        },
        "decode": {
            "photos": run.decoded,
            "ms_each": _maybe(decode_ms),
            "photos_per_second": _maybe(in_advance),
        },
        "setup_seconds": round(run.recording.setup_seconds, 2),
        "usage": usage(run.recording.samples),
        "operators": run.operators,
    }


def _facts(data: TrainingData, recipe: Recipe, how: ProfileSettings, run: Measurement) -> Measured:
    gpus = [one.gpu_percent for one in run.recording.samples if one.gpu_percent is not None]
    auto = dataclasses.replace(recipe.train, precision="auto")
    unfrozen = recipe.model.unfrozen_stages
    return Measured(
        shares={name: sum(getattr(s, name) for s in run.recording.steps) / run.seconds for name in PHASES},
        cores=run.recording.cores,
        threads=run.threads,
        workers=run.recording.workers,
        in_memory=run.in_memory or how.epoch == "first",  # a cache is of no use to the first epoch
        cache_mb=(len(data.train_paths) * recipe.pixels.size**2 * 3 >> 20) + 1,
        free_mb=psutil.virtual_memory().available >> 20,
        precision=pick_precision(recipe.train),
        native_bf16=pick_precision(auto) == "bf16-mixed",
        kept=run.kept,
        num_frozen=run.num_frozen,
        frozen_share=run.num_frozen / max(1, run.num_frozen + unfrozen),  # a stage costs about what another does
        gpu_p95=percentile(gpus, 95) if gpus else None,
    )


def _write_trace(to: Path, trace: bytes) -> str:
    large = len(trace) > _LARGE_TRACE
    name = f"{TRACE_FILE}.gz" if large else TRACE_FILE
    (to / (TRACE_FILE if large else f"{TRACE_FILE}.gz")).unlink(missing_ok=True)  # of a profile before
    files.write_bytes(to / name, gzip.compress(trace, 6) if large else trace)
    return name


def _maybe(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _rounded(one: StepTime | Sample) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 5)
        if isinstance(value, list):
            return [short(each) for each in value]
        if isinstance(value, dict):
            return {key: short(each) for key, each in value.items()}
        return value

    found: dict[str, Any] = short(settings.as_dict(one))
    return found
