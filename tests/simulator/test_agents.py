"""The load of agents: each turn continues the one before, and an agent does one task at a time."""

from itertools import pairwise

from tests.bench.agents_load import AgentsLoad, turns

LOAD = AgentsLoad(kinds=2, system_tokens=100, turns=5.0)


def test_each_agent_does_its_tasks_one_after_another() -> None:
    for arrival in LOAD.agents(6, 4):
        sessions = [turn.session for turn in turns(arrival.request)]
        in_order = list(dict.fromkeys(sessions))
        assert len(in_order) == 4
        assert sessions == sorted(sessions, key=in_order.index)


def test_a_turn_begins_with_the_answer_to_the_one_before() -> None:
    for arrival in LOAD.agents(6, 4):
        done = list(turns(arrival.request))
        for turn, following in pairwise(done):
            if following.session == turn.session:
                known = len(turn.prefix.hashes)
                assert following.prefix.hashes[:known] == turn.prefix.hashes
                assert following.prefix.hashes[known] == turn.answer_hash


def test_agents_of_a_kind_share_their_system_prompt() -> None:
    firsts = [arrival.request.prefix for arrival in LOAD.agents(6, 1)]
    assert len({prefix.hashes[0] for prefix in firsts}) == 2


def test_tasks_end_when_the_context_is_full() -> None:
    load = AgentsLoad(turns=1e9, context_tokens=20_000)
    (arrival,) = load.agents(1, 1)
    *_, last = turns(arrival.request)
    assert last.prompt_tokens + last.output_tokens > 20_000
    assert last.prompt_tokens < 40_000
