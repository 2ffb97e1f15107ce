"""How long something takes on a device."""

import statistics
import time
from collections.abc import Callable

import torch

_WARM_UP = 3


def median_ms(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Of several, after some that do not count. On a GPU by its own events: Python runs ahead."""
    for _ in range(_WARM_UP):
        work()
    if device.type != "cuda":
        return statistics.median(_wall_ms(work) for _ in range(repeats))
    events = [(_event(), _event()) for _ in range(repeats)]
    torch.cuda.synchronize(device)
    for begin, end in events:
        begin.record()
        work()
        end.record()
    torch.cuda.synchronize(device)
    return statistics.median(float(begin.elapsed_time(end)) for begin, end in events)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _wall_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)
