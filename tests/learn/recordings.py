"""Short recordings for the tests of the profiler rules."""

from bintally.learn.sampling import GpuSample, Sample


def gpu(percent: float, memory: float = 50, index: int = 0) -> GpuSample:
    return GpuSample(index=index, percent=percent, memory_percent=memory, memory_mb=memory * 100)


def samples(num: int = 20, *, cpu: float = 50, io: float = 0, gpus: tuple[GpuSample, ...] = ()) -> list[Sample]:
    return [Sample(time=k / 10, cpu=(cpu, cpu), io_wait=io, rss_mb=100, gpus=gpus) for k in range(num)]
