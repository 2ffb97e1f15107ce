from typing import get_args

import pytest

from serving.placement import LeastCost, LeastTokens, PowerOfTwo, ReplicaLoad, RoundRobin
from serving.placement.policies import PolicyName, policy
from serving.placement.session_hash import SessionHash
from tests.placement.works import work

NAMES: tuple[PolicyName, ...] = get_args(PolicyName)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_of_a_policy_that_chooses_one_of_the_replicas(name: PolicyName) -> None:
    loads = [ReplicaLoad(f"r{i}") for i in range(3)]
    asked = work(1, 2, session="a")
    assert 0 <= policy(name).choose(asked, loads, [0, 0, 0], 0.0) < 3
    assert policy(name).choose(asked, loads[:1], [0], 0.0) == 0
    with pytest.raises(ValueError):
        policy(name).choose(asked, [], [], 0.0)


def test_the_names_are_those_of_the_classes() -> None:
    kinds: dict[PolicyName, type] = {
        "least_cost": LeastCost,
        "least_tokens": LeastTokens,
        "power_of_two": PowerOfTwo,
        "round_robin": RoundRobin,
        "session_hash": SessionHash,
    }
    assert {name: type(policy(name)) for name in NAMES} == kinds


def test_each_model_has_a_policy_of_its_own() -> None:
    """Two models in turn would else send each model's requests to every second replica."""
    loads = [ReplicaLoad(f"r{i}") for i in range(2)]
    first, second = policy("round_robin"), policy("round_robin")
    assert [p.choose(work(1), loads, [0, 0], 0.0) for p in (first, second, first)] == [0, 0, 1]
