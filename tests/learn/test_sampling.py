"""What the machine does is sampled in the background; what nvidia-smi prints is read."""

import itertools
import time

import pytest

from bintally.learn.sampling import GpuSample, Sample, Sampler, parse_gpu_line, parse_gpus, percentile

# nvidia-smi --query-gpu=index,utilization.gpu,utilization.memory,memory.used,memory.total --format=csv,noheader,nounits
RECORDED = """0, 97, 64, 30412, 40960
1, 12, 3, 1024, 40960
0, 99, 65, 30720, 40960
"""


def test_the_newest_sample_of_each_gpu() -> None:
    first, second = parse_gpus(RECORDED)
    assert first == GpuSample(index=0, percent=99, memory_percent=75, memory_mb=30720)
    assert (second.index, second.percent, second.memory_percent) == (1, 12, 2.5)


@pytest.mark.parametrize(
    "line", ["", "Unable to determine the device handle for GPU", "index, utilization.gpu [%], x, y, z", "0, 97, 64"]
)
def test_what_is_no_sample(line: str) -> None:
    assert parse_gpu_line(line) is None


def test_what_a_driver_does_not_know_is_zero() -> None:
    found = parse_gpu_line("0, [N/A], [N/A], [Not Supported], [N/A]")
    assert found == GpuSample(index=0, percent=0, memory_percent=0, memory_mb=0)


def test_a_sampler_sees_this_process() -> None:
    with Sampler(0.02) as sampler:
        time.sleep(0.2)
    taken = sampler.samples
    assert len(taken) >= 2
    assert taken[0].rss_mb > 10
    assert len(taken[0].cpu) >= 1
    assert all(one.time < two.time for one, two in itertools.pairwise(taken))
    time.sleep(0.1)
    assert sampler.samples == taken, "it goes on after its end"


def test_means_over_cores_and_gpus() -> None:
    gpus = tuple(GpuSample(index=k, percent=p, memory_percent=0, memory_mb=0) for k, p in enumerate((20, 40)))
    assert Sample(time=0, cpu=(10, 30), gpus=gpus).cpu_percent == 20
    assert Sample(time=0, cpu=(10, 30), gpus=gpus).gpu_percent == 30
    assert Sample(time=0).gpu_percent is None


def test_percentiles() -> None:
    assert percentile([], 95) == 0
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([0, 10], 95) == pytest.approx(9.5)
