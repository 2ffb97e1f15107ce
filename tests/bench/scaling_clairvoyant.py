"""Scaling with knowledge of the load, as a bound for other policies.

It is no proof of a minimum but the cheapest plan found, by simulation, among those that follow the
work: for each window of 1, 5 or 30 minutes the replicas for the work that will arrive in it, times
the smallest factor with which 99 % are good. Replicas are requested one startup time before they
are needed, and their start is paid for, as with every policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from serving.scaling import Decision, Observed
from serving.simulator.step_time import StepTime
from serving.simulator.workload import Arrival

SLOT_S = 2.0


@dataclass(frozen=True)
class Plan:
    """Replicas to have up or starting, in slots of `SLOT_S`; the last value then holds."""

    slots: Sequence[int]

    @property
    def replica_hours(self) -> float:
        return sum(self.slots) * SLOT_S / 3600

    def decide(self, observed: Observed, now_s: float) -> Decision:
        slot = min(int(now_s / SLOT_S), len(self.slots) - 1)
        return Decision(self.slots[slot], "prefill", 0.0, 1.0)


def work_s(arrivals: Sequence[Arrival], step_time: StepTime) -> list[float]:
    """By slot, the time in which one replica would prefill what arrives, if it never evicted a
    prefix."""
    slots = [0.0] * (int(arrivals[-1].at_s / SLOT_S) + 1)
    seen: set[int] = set()
    for arrival in arrivals:
        prefix = arrival.request.prefix
        cached = 0
        for block, end in zip(prefix.hashes, prefix.ends_tokens, strict=True):
            if block not in seen:
                break
            cached = end
        seen.update(prefix.hashes)
        slots[int(arrival.at_s / SLOT_S)] += step_time.prefill_s(prefix.tokens, cached)
    return slots


def plan(work: Sequence[float], window_s: float, times: float, startup_s: float) -> Plan:
    """A plan with enough replicas for the work of each window, multiplied by `times`. They are
    requested one startup time ahead, and kept if they would be needed again within it, which costs
    no more than starting them anew."""
    width = max(1, min(round(window_s / SLOT_S), len(work)))
    needed: list[int] = []
    for begin in range(0, len(work), width):
        window = work[begin : begin + width]
        need = max(1, ceil(times * sum(window) / (len(window) * SLOT_S) - 1e-9))
        needed += [need] * len(window)
    ahead = ceil(startup_s / SLOT_S) + 1
    return Plan([max(needed[slot : slot + ahead + 1]) for slot in range(len(needed))])
