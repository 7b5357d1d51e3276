"""What a recording says of itself."""

import pytest

from bintally.learn.recording import Recording, StepTime, usage
from tests.learn.recordings import gpu, samples


def test_a_step_is_the_sum_of_its_phases() -> None:
    step = StepTime(step=1, waiting=1, to_device=2, forward=4, backward=8, optimizer=16, rss_mb=99)
    assert step.seconds == 31


@pytest.mark.parametrize(("gpus", "num"), [((), 0), ((gpu(1),), 1), ((gpu(1), gpu(2, index=1)), 2)])
def test_gpus_are_those_of_the_samples(gpus: tuple[object, ...], num: int) -> None:
    assert Recording(samples=samples(3, gpus=gpus)).num_gpus == num  # type: ignore[arg-type]


def test_usage_by_core_and_gpu() -> None:
    found = usage([*samples(10, cpu=0), *samples(10, cpu=100, gpus=(gpu(80, 20),))])
    assert found["cpu_percent"] == {"mean": 50, "p50": 50, "p95": 100, "max": 100}
    assert found["cpu_1_percent"]["mean"] == 50
    assert found["gpu_0_percent"]["mean"] == 80
    assert found["gpu_0_memory_mb"]["max"] == 2000
    assert usage([]) == {}
