from typing import get_args

import pytest

from serving.placement import PowerOfTwo, ReplicaLoad
from serving.placement.policies import PolicyName, policy
from tests.placement.works import work

REPLICAS = [ReplicaLoad(f"replica-{i}") for i in range(5)]
SESSIONS = [f"session-{i}" for i in range(500)]


def holding(*prompts_tokens: int, output_tokens: int = 0) -> ReplicaLoad:
    load = ReplicaLoad()
    for prompt_tokens in prompts_tokens:
        asked = work(prompt_tokens=prompt_tokens, output_tokens=output_tokens)
        load.book(asked, 0, now_s=0.0)
    return load


def with_requests(requests: int) -> ReplicaLoad:
    return holding(*[1] * requests)


def least_tokens(*loads: ReplicaLoad) -> int:
    return policy("least_tokens").choose(work(1), loads, [0] * len(loads), now_s=0.0)


def by_session(session: str | None, loads: list[ReplicaLoad]) -> ReplicaLoad:
    asked = work(1, session=session)
    return loads[policy("session_hash").choose(asked, loads, [0] * len(loads), 0.0)]


@pytest.mark.parametrize("name", get_args(PolicyName))
def test_each_name_has_a_policy_that_chooses_one_of_the_replicas(name: PolicyName) -> None:
    loads = [ReplicaLoad(f"r{i}") for i in range(3)]
    asked = work(1, 2, session="a")
    assert 0 <= policy(name).choose(asked, loads, [0, 0, 0], 0.0) < 3
    assert policy(name).choose(asked, loads[:1], [0], 0.0) == 0
    with pytest.raises(ValueError):
        policy(name).choose(asked, [], [], 0.0)


def test_each_model_has_a_policy_of_its_own() -> None:
    """With a shared policy, two models in turn would send each model's requests to every second
    replica."""
    loads = [ReplicaLoad(f"r{i}") for i in range(2)]
    first, second = policy("round_robin"), policy("round_robin")
    assert [p.choose(work(1), loads, [0, 0], 0.0) for p in (first, second, first)] == [0, 0, 1]


def test_least_tokens_counts_tokens_whatever_the_number_of_requests() -> None:
    assert least_tokens(holding(900), holding(10, 20, 30), holding(500)) == 1


def test_least_tokens_breaks_ties_by_requests_then_takes_the_first() -> None:
    assert least_tokens(holding(50, 50), holding(100), holding(100)) == 1


def test_least_tokens_counts_expected_answers() -> None:
    assert least_tokens(holding(10, output_tokens=2000), holding(1000)) == 1


def test_power_of_two_never_takes_the_most_loaded_and_takes_all_others() -> None:
    assert isinstance(policy("power_of_two"), PowerOfTwo)
    chooser = PowerOfTwo(seed=0)
    loads = [with_requests(n) for n in (5, 9, 1, 3)]
    placed = [chooser.choose(work(1), loads, [0] * 4, 0.0) for _ in range(200)]
    assert set(placed) == {0, 2, 3}
    assert placed.count(2) > placed.count(3) > placed.count(0)


def test_round_robin_goes_on_when_replicas_come_and_go() -> None:
    loads = [ReplicaLoad() for _ in range(3)]
    whole, changing = policy("round_robin"), policy("round_robin")
    placed = [whole.choose(work(1), loads, [0] * 3, 0.0) for _ in range(7)]
    assert placed == [0, 1, 2, 0, 1, 2, 0]
    counts = (3, 3, 2, 1, 3)
    placed = [changing.choose(work(1), loads[:count], [0] * count, 0.0) for count in counts]
    assert placed == [0, 1, 0, 0, 1]


def test_session_hash_keeps_sessions_and_spreads_them() -> None:
    first = [by_session(session, REPLICAS) for session in SESSIONS]
    assert [by_session(session, REPLICAS[::-1]) for session in SESSIONS] == first
    assert min(first.count(load) for load in REPLICAS) > 60


def test_session_hash_moves_only_the_sessions_of_a_replica_that_goes() -> None:
    for session in SESSIONS:
        before = by_session(session, REPLICAS)
        if before is not REPLICAS[2]:
            assert by_session(session, [*REPLICAS[:2], *REPLICAS[3:]]) is before


def test_session_hash_takes_the_fewest_tokens_without_a_session() -> None:
    busy, idle = ReplicaLoad("busy"), ReplicaLoad("idle")
    busy.book(work(1), 0, now_s=0.0)
    assert by_session(None, [busy, idle]) is idle
    assert by_session("", [busy, idle]) is idle
