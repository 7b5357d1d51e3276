"""Each profiler rule on recorded samples: above its threshold it fires, at and below it does not."""

from pathlib import Path

import pytest

from bintally.errors import SettingsError
from bintally.learn.profiler_rules import (
    BatchSize,
    CPUBottleneck,
    Dataloader,
    GPUMemoryIncrease,
    IOBottleneck,
    LoadBalancing,
    LowGPUUtilization,
    MaxInitializationTime,
    MemoryIncrease,
    StepOutlier,
    load_profiler_rules,
)
from bintally.learn.recording import ProfilerRule, Recording, StepTime
from bintally.learn.sampling import GpuSample
from tests.learn.recordings import gpu, samples


def fires(rule: ProfilerRule, recording: Recording) -> bool:
    assert rule.why_not(recording) is None
    return bool(list(rule.findings(recording)))


@pytest.mark.parametrize(("percent", "fired"), [(69.9, True), (70, False), (90, False)])
def test_low_gpu_utilization(percent: float, fired: bool) -> None:
    assert fires(LowGPUUtilization(), Recording(samples=samples(gpus=(gpu(percent),)))) is fired


def test_a_gpu_that_swings() -> None:
    mixed = samples(10, gpus=(gpu(5),)) + samples(10, gpus=(gpu(95),))
    (found,) = LowGPUUtilization().findings(Recording(samples=mixed))
    assert "swings" in found.message


@pytest.mark.parametrize(
    ("cpu", "percent", "memory", "fired"),
    [(60, 60, 60, True), (70, 60, 60, False), (60, 70, 60, False), (60, 60, 70, False)],
)
def test_batch_size(cpu: float, percent: float, memory: float, fired: bool) -> None:
    recording = Recording(samples=samples(cpu=cpu, gpus=(gpu(percent, memory),)))
    assert fires(BatchSize(), recording) is fired


@pytest.mark.parametrize(("bad", "fired"), [(11, True), (10, False), (9, False)])
def test_cpu_bottleneck(bad: int, fired: bool) -> None:
    mixed = samples(bad, cpu=95, gpus=(gpu(5),)) + samples(20 - bad, cpu=95, gpus=(gpu(80),))
    assert fires(CPUBottleneck(), Recording(samples=mixed)) is fired


@pytest.mark.parametrize(("cpu", "percent"), [(90, 5), (95, 10)])
def test_cpu_bottleneck_at_its_thresholds(cpu: float, percent: float) -> None:
    assert not fires(CPUBottleneck(), Recording(samples=samples(cpu=cpu, gpus=(gpu(percent),))))


@pytest.mark.parametrize(("bad", "fired"), [(11, True), (10, False)])
@pytest.mark.parametrize("gpus", [(), (gpu(5),)], ids=["no GPU", "idle GPU"])
def test_io_bottleneck(bad: int, fired: bool, gpus: tuple[GpuSample, ...]) -> None:
    mixed = samples(bad, io=51, gpus=gpus) + samples(20 - bad, io=50, gpus=gpus)
    assert fires(IOBottleneck(), Recording(samples=mixed)) is fired


def test_io_wait_beside_a_busy_gpu_is_no_bottleneck() -> None:
    assert not fires(IOBottleneck(), Recording(samples=samples(io=90, gpus=(gpu(80),))))


@pytest.mark.parametrize(("workers", "fired"), [(6, True), (7, False), (10, False), (20, False), (21, True)], ids=str)
def test_loader_threads(workers: int, fired: bool) -> None:
    assert fires(Dataloader(), Recording(workers=workers, cores=10)) is fired


@pytest.mark.parametrize(("waiting", "fired"), [(0.26, True), (0.25, False), (0.1, False)])
def test_waiting_for_data(waiting: float, fired: bool) -> None:
    steps = [StepTime(step=k, waiting=waiting, forward=1.0) for k in range(5)]
    assert fires(Dataloader(), Recording(steps=steps)) is fired


@pytest.mark.parametrize(("num", "fired"), [(11, True), (10, False)])
def test_step_outliers(num: int, fired: bool) -> None:
    steps = [StepTime(step=k, forward=10.0 if k < num else 1.0) for k in range(200)]
    recording = Recording(steps=steps)
    assert fires(StepOutlier(), recording) is fired
    assert len(list(StepOutlier().findings(recording))) == (num if fired else 0)


def test_few_steps_cannot_hold_eleven_outliers() -> None:
    few = [StepTime(step=k, forward=10.0 if k < 11 else 1.0) for k in range(109)]
    assert not list(StepOutlier().findings(Recording(steps=few)))
    assert "--steps 111" in (StepOutlier().why_not(Recording(steps=few)) or "")
    more = [*few, *(StepTime(step=k, forward=1.0) for k in (109, 110))]
    assert fires(StepOutlier(), Recording(steps=more))


@pytest.mark.parametrize(("rise", "fired"), [(5.1, True), (5, False), (-20, False)])
def test_gpu_memory_increase(rise: float, fired: bool) -> None:
    mixed = samples(10, gpus=(gpu(90, 40),)) + samples(10, gpus=(gpu(90, 40 + rise),))
    assert fires(GPUMemoryIncrease(), Recording(samples=mixed)) is fired


@pytest.mark.parametrize(
    ("memory", "fired"),
    [
        ([1000.0 + 10 * k for k in range(30)], True),
        ([1000.0 + 1.9 * k for k in range(30)], False),  # 4.75 % in 25 steps
        ([500.0 + 1.9 * k for k in range(30)], False),  # above 5 %, but under 50 MB
        ([1000.0] * 10 + [1500.0] * 20, False),  # taken once
        ([1500.0 - 10 * k for k in range(30)], False),
    ],
    ids=["a leak", "slight", "small", "once", "less"],
)
def test_memory_increase(memory: list[float], fired: bool) -> None:
    steps = [StepTime(step=k, rss_mb=one) for k, one in enumerate(memory)]
    assert fires(MemoryIncrease(), Recording(steps=steps)) is fired


def test_a_leak_is_told_by_the_step() -> None:
    steps = [StepTime(step=k, rss_mb=1000 + 10 * k) for k in range(30)]
    (found,) = MemoryIncrease().findings(Recording(steps=steps))
    assert "10.0 MB a step" in found.message
    assert MemoryIncrease().why_not(Recording(steps=steps[:19]))


@pytest.mark.parametrize(("minutes", "fired"), [(20.1, True), (20, False), (0, False)])
def test_initialization(minutes: float, fired: bool) -> None:
    assert fires(MaxInitializationTime(), Recording(setup_seconds=60 * minutes)) is fired


@pytest.mark.parametrize(("other", "fired"), [(79, True), (80, False), (100, False)])
def test_load_balancing(other: float, fired: bool) -> None:
    pair = (gpu(100), gpu(other, index=1))
    assert fires(LoadBalancing(), Recording(samples=samples(gpus=pair))) is fired


def test_too_few_samples_are_no_evidence() -> None:
    assert "9 samples" in (IOBottleneck().why_not(Recording(samples=samples(9, io=99))) or "")


def test_thresholds_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[IOBottleneck]\nthreshold = 99.5\n[BatchSize]\nenabled = false\n")
    rules = load_profiler_rules(file)
    assert "BatchSize" not in rules
    assert rules["IOBottleneck"] == IOBottleneck(threshold=99.5)
    file.write_text("[IOBottleneck]\ntreshold = 1\n")
    with pytest.raises(SettingsError, match="did you mean 'threshold'"):
        load_profiler_rules(file)
    file.write_text("[Nothing]\n")
    with pytest.raises(SettingsError, match="unknown table"):
        load_profiler_rules(file)
