"""Recorded sessions of agents: which turn continues which, and that they are played as recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving.simulator.trace import TraceError
from tests.bench.agents_load import turns
from tests.bench.agents_recorded import RecordedAgents, RecordedTurn, read_sessions


def request(hash_ids: list[int], out: int = 50, **fields: Any) -> dict[str, Any]:
    tokens = len(hash_ids) * 100
    return {"type": "s", "in": tokens, "out": out, "hash_ids": hash_ids, **fields}


def write(folder: Path, *requests: Any, name: str = "one", tools: int = 200) -> None:
    row = {"block_size": 100, "tool_tokens": tools, "system_tokens": 100, "requests": requests}
    (folder / f"{name}.json").write_text(json.dumps(row))


def test_a_turn_continues_the_last_prompt_that_it_contains(tmp_path: Path) -> None:
    write(
        tmp_path,
        request([1, 2, 3, 4]),
        request([1, 2, 3, 4, 5], think_time=4.0),
        request([8, 9]),
        request([1, 2, 3, 4, 5, 6, 7], think_time=9.5),
    )
    (session,) = read_sessions(tmp_path)
    assert session.turns == (
        RecordedTurn(400, 50, 0.0),
        RecordedTurn(500, 50, 4.0, continues=0, kept_tokens=450),
        RecordedTurn(200, 50, 0.0),
        RecordedTurn(700, 50, 9.5, continues=1, kept_tokens=550),
    )


def test_a_turn_without_the_end_of_the_prompt_before_keeps_what_is_equal(tmp_path: Path) -> None:
    write(tmp_path, request([1, 2, 3, 4]), request([1, 2, 3, 9, 10, 11]))
    (session,) = read_sessions(tmp_path)
    assert session.turns[1] == RecordedTurn(600, 50, 0.0, continues=0, kept_tokens=300)


def test_the_turns_of_a_subagent_are_between_those_of_its_parent(tmp_path: Path) -> None:
    subagent = {"type": "subagent", "requests": [request([5, 6]), request([5, 6, 7])]}
    write(tmp_path, request([1, 2]), subagent, request([1, 2, 3]))
    (session,) = read_sessions(tmp_path)
    assert [turn.continues for turn in session.turns] == [None, None, 1, 0]


def test_agents_play_the_sessions_with_new_text_each_time(tmp_path: Path) -> None:
    write(
        tmp_path,
        request([1, 2, 3, 4], think_time=0.0),
        request([1, 2, 3, 4, 5, 6], think_time=7.0),
        request([1, 2, 3, 4, 5, 6, 7, 8], think_time=5000.0),
    )
    arrivals = RecordedAgents(read_sessions(tmp_path)).agents(2, 2)
    played = [list(turns(arrival.request)) for arrival in arrivals]
    assert {len(one) for one in played} == {6}
    for one in played:
        first, second, third = one[:3]
        assert [turn.prompt_tokens for turn in one] == [400, 600, 800] * 2
        assert [first.think_s, second.think_s] == [7.0, 600.0]
        assert second.prefix.hashes[: len(first.prefix.hashes)] == first.prefix.hashes
        assert third.prefix.hashes[len(second.prefix.hashes)] == second.answer_hash
        assert len({turn.session for turn in one}) == 2
    system = played[0][0].prefix.hashes[:1]
    assert all(turn.prefix.hashes[:1] == system for one in played for turn in one)
    ends = {one[2].prefix.hashes[-1] for one in played} | {
        one[5].prefix.hashes[-1] for one in played
    }
    assert len(ends) == 4


def test_a_session_ends_before_the_turn_that_is_too_long(tmp_path: Path) -> None:
    write(tmp_path, request([1, 2, 3, 4]), request([1, 2, 3, 4, 5, 6]))
    write(tmp_path, request([1] * 50), name="two")
    (arrival,) = RecordedAgents(read_sessions(tmp_path), context_tokens=500).agents(1, 3)
    assert [turn.prompt_tokens for turn in turns(arrival.request)] == [400] * 3


def test_sessions_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    write(tmp_path, request([1, 2, 3, 4]))
    with pytest.raises(TraceError, match="within 300 tokens"):
        RecordedAgents(read_sessions(tmp_path), context_tokens=300).agents(1, 1)


@pytest.mark.parametrize("text", ["[1, 2", "[]", "{}", '{"block_size": 64, "requests": [1]}'])
def test_a_file_of_another_form_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(TraceError, match=r"wrong\.json is no recorded session"):
        read_sessions(tmp_path)


def test_a_folder_without_sessions_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no recorded sessions"):
        read_sessions(tmp_path)
