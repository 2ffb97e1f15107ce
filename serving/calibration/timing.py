"""Times work on a device."""

import statistics
import time
from collections.abc import Callable

import torch

_WARM_UP = 3


def median_ms(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median time of several runs, after warm-up runs. On a GPU it is taken by CUDA events
    around a CUDA graph, which vLLM uses too, so that launching kernels from Python does not count.
    `work` must be the same each time."""
    if device.type != "cuda":
        for _ in range(_WARM_UP):
            work()
        return statistics.median(_wall_ms(work) for _ in range(repeats))
    graph = _captured(work)
    events = [(_event(), _event()) for _ in range(repeats)]
    for _ in range(_WARM_UP):
        graph.replay()
    torch.cuda.synchronize(device)
    for begin, end in events:
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize(device)
    return statistics.median(float(begin.elapsed_time(end)) for begin, end in events)


def _captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries initialise in the first calls
        for _ in range(_WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _wall_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)
