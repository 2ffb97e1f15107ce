"""Tests of the benchmark's other policies, and of its plans."""

from itertools import pairwise

from serving.placement.prefix import Prefix
from serving.simulator.request import Request
from serving.simulator.step_time import StepTime
from serving.simulator.workload import Arrival
from tests.bench.scaling_clairvoyant import SLOT_S, plan, work_s
from tests.bench.scaling_peers import Kpa, RayDefault
from tests.scaling.fleet import Fleet, observed


def test_rays_goes_up_after_half_a_minute_and_down_after_ten() -> None:
    ray = RayDefault(10, 50)
    counts = []
    for second in range(0, 1000, 2):
        running = 40 if second < 200 else 10
        counts.append(ray.decide(observed(2, running_requests=running), second).replicas)
    assert set(counts[:15]) == {2}
    assert counts[15] == 4
    falls_s = [2 * i for i, (a, b) in enumerate(pairwise(counts), 1) if a >= 2 > b]
    assert 800 <= falls_s[0] <= 840


def test_kpa_panics_and_goes_down_slowly() -> None:
    fleet = Fleet(Kpa(10, 50), 2)
    fleet.run(lambda now_s: 4.0 if not 400 <= now_s < 600 else 12.0, 1400)
    grown_s = fleet.period_s * next(i for i, one in enumerate(fleet.counts) if one >= 8)
    assert 410 < grown_s < 480
    assert fleet.counts[round(840 / fleet.period_s)] > 4
    assert fleet.counts[-1] == 4


def test_a_plan_has_replicas_up_when_their_work_comes() -> None:
    work = [SLOT_S] * 100 + [3 * SLOT_S] * 100 + [SLOT_S] * 20 + [3 * SLOT_S] * 100 + [0.0] * 100
    slots = plan(work, SLOT_S, 1, startup_s=60).slots
    assert slots.index(3) == 100 - 30 - 1
    # a gap that is shorter than a start
    assert set(slots[100:320]) == {3}
    assert set(slots[320:]) == {1}


def test_work_is_of_what_was_never_seen() -> None:
    step_time = StepTime(1000, 0.01, 0, 0)
    requests = [
        Request(Prefix([1, 2], [512, 1000], 1000), 10, -1),
        Request(Prefix([1, 3], [512, 1512], 1512), 10, -2),
    ]
    arrivals = [Arrival(0.0, requests[0]), Arrival(SLOT_S, requests[1])]
    assert [round(slot, 6) for slot in work_s(arrivals, step_time)] == [1.0, 1.0]
