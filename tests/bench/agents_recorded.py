"""Reads recorded sessions of agents, and plays them as a load."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from serving.placement.prefix import Prefix
from serving.simulator.request import Request
from serving.simulator.trace import TraceError
from serving.simulator.workload import Arrival, PromptMaker, answered
from tests.bench.agents_load import one_after_another

_BETWEEN_SESSIONS_S = 2.0


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """A request of a recorded session."""

    prompt_tokens: int
    output_tokens: int
    pause_s: float
    """From the answer to the one before until it was sent: the time of a tool or of a person."""
    continues: int | None = None
    """The earlier turn with which its prompt begins; None: none of them."""
    kept_tokens: int = 0
    """How much of that turn, its answer included, its prompt begins with."""


@dataclass(frozen=True, slots=True)
class RecordedSession:
    system_tokens: tuple[int, int]
    """Length of the tools and of the system prompt, which sessions with the same lengths share."""
    turns: tuple[RecordedTurn, ...]


def read_sessions(folder: Path) -> list[RecordedSession]:
    """The sessions of a folder, one JSON file each, in the order of the files' names.

    They are in the format of callanjfox/kv-cache-tester, which has some seven hundred sessions of
    coding agents: `requests` of `in` and `out` (tokens), `think_time` (seconds), and `hash_ids` of
    the prompt's blocks of `block_size` tokens, by which later prompts are seen to continue earlier
    ones. The requests of a `subagent` are taken one after another, between those of its parent.

    Raises TraceError for a file of another format, OSError for one that cannot be read.
    """
    sessions = []
    for path in sorted(folder.glob("*.json")):
        try:
            sessions.append(_session(json.loads(path.read_bytes())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise TraceError(f"{path} is no recorded session of an agent: {what}") from None
    if not sessions:
        raise TraceError(f"{folder} has no recorded sessions of agents (*.json)")
    return sessions


def _session(row: Mapping[str, Any]) -> RecordedSession:
    block_tokens = int(row["block_size"])
    turns: list[RecordedTurn] = []
    blocks: list[list[int]] = []
    for request in _requests(row["requests"]):
        hashes, prompt_tokens = list(request["hash_ids"]), max(int(request["in"]), 1)
        continues, common = _most_common(hashes, blocks)
        kept_tokens = common * block_tokens
        if continues is not None and common == len(blocks[continues]):
            kept_tokens = turns[continues].prompt_tokens + turns[continues].output_tokens
        turns.append(
            RecordedTurn(
                prompt_tokens,
                max(int(request["out"]), 1),
                max(float(request.get("think_time", 0.0)), 0.0),
                continues,
                min(kept_tokens, prompt_tokens),
            )
        )
        blocks.append(hashes)
    return RecordedSession((int(row["tool_tokens"]), int(row["system_tokens"])), tuple(turns))


def _requests(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        if row["type"] == "subagent":
            yield from _requests(row["requests"])
        else:
            yield row


def _most_common(hashes: list[int], earlier: Sequence[list[int]]) -> tuple[int | None, int]:
    """The number of the earlier prompt that has the most first blocks in common with a prompt, and
    how many. The latest that it contains whole comes before all others."""
    best, most = None, 0
    for number in reversed(range(len(earlier))):
        common = _common(earlier[number], hashes)
        if common > most:
            best, most = number, common
        if common and common == len(earlier[number]):
            return number, common
    return best, most


def _common(one: list[int], other: list[int]) -> int:
    """How many of the first items of two lists are equal, by bisection: slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class RecordedAgents:
    """Agents that begin the next recorded session when one is done, each time with new text."""

    sessions: Sequence[RecordedSession]
    context_tokens: int = 128_000
    """A session is over before the turn that is longer."""
    longest_pause_s: float = 600.0
    """Longer pauses are shortened: a person had gone."""

    def agents(self, count: int, tasks: int, *, seed: int = 0) -> list[Arrival]:
        """The first turns of `count` agents that each do `tasks` sessions. They begin within a
        minute; a session is named `agent/task`. Raises TraceError if none fits the context."""
        rng = random.Random(seed)
        maker = PromptMaker()
        systems: dict[tuple[int, int], Prefix] = {}
        for session in self.sessions:
            if session.system_tokens not in systems:
                systems[session.system_tokens] = maker.extend(None, sum(session.system_tokens))
        fitting = [session for session in self.sessions if self._turns(session)]
        if not fitting:
            raise TraceError(f"no session begins within {self.context_tokens:,} tokens of context")
        order = rng.sample(fitting, len(fitting))

        def task(agent: int, number: int) -> Iterator[Request]:
            session = order[(agent + number * count) % len(order)]
            system = systems[session.system_tokens]
            return self._play(session, system, maker, f"{agent}/{number}")

        return one_after_another(count, tasks, task, rng)

    def _turns(self, session: RecordedSession) -> list[RecordedTurn]:
        def fits(turn: RecordedTurn) -> bool:
            return turn.prompt_tokens + turn.output_tokens <= self.context_tokens

        return list(takewhile(fits, session.turns))

    def _play(
        self, session: RecordedSession, system: Prefix, maker: PromptMaker, name: str
    ) -> Iterator[Request]:
        turns = self._turns(session)
        pauses_s = [*(turn.pause_s for turn in turns[1:]), _BETWEEN_SESSIONS_S]
        sent: list[Request] = []
        for turn, pause_s in zip(turns, pauses_s, strict=True):
            if turn.continues is not None:
                begin = _first(answered(sent[turn.continues]), turn.kept_tokens)
            else:
                begin = Prefix([], [], 0) if sent or turn.prompt_tokens < system.tokens else system
            request = Request(
                maker.extend(begin, turn.prompt_tokens - begin.tokens),
                turn.output_tokens,
                maker.fresh(),
                name,
                think_s=min(pause_s, self.longest_pause_s),
            )
            sent.append(request)
            yield request


def _first(prefix: Prefix, tokens: int) -> Prefix:
    """Returns as much of a prefix as `tokens` hold, up to one of its ends. An answer follows it."""
    if tokens >= prefix.tokens:
        return prefix
    ends_tokens = [end for end in prefix.ends_tokens if end <= tokens]
    kept = len(ends_tokens)
    return Prefix(
        prefix.hashes[:kept],
        ends_tokens,
        ends_tokens[-1] if kept else 0,
        answer=(kept, kept + 1) if kept else None,
    )
