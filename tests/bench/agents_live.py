"""Agents on a real vLLM whose KV cache is tiny, with and without the working set, beside the same
load in simulated time.

`python -m tests.bench.agents_live` runs agents whose sessions fill the cache of one engine four
times, on the embedded model, with tools that sleep. The simulated engine's step times are fitted
to the real one's first. Reports, asserts nothing; takes ten minutes, and any other work of the
machine counts as vLLM's.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from rich.console import Console

from serving import catalogue
from serving.dispatch import Dispatcher
from serving.dispatch.working_set import WorkingSet
from serving.mistral import ModelRules
from serving.placement import Capacity
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.simulator.ceiling import hit_rate_ceiling
from serving.simulator.engine import EngineSpec
from serving.simulator.request import Outcome, Request
from serving.simulator.simulation import Simulation
from serving.simulator.workload import Arrival
from serving.tiny import tiny_model_folder
from tests.bench.agents import Figures, figures, table
from tests.bench.agents_load import AgentsLoad, turns
from tests.bench.frontend_process import SMALL_FLAGS, ours, plain, wait_until_ready
from tests.bench.placement import OURS, POLICIES
from tests.bench.relay_process import HOST, MODEL, Server
from tests.bench.simulator_tiny import ENTRY, MAX_NUM_BATCHED_TOKENS, MAX_NUM_SEQS, fit, sweep
from tests.support.live_router import TOKEN, LiveRouter, running_router

SUBSCRIPTION = 4
"""Contexts of all agents' sessions, in caches."""
KV_CACHE_TOKENS = 32_000
_BYTES_PER_KV_TOKEN = 134_217_728 / 175_000
WARM_S, UNTIL_S = 40.0, 200.0
TASKS = 30
"""More than an agent does in that time."""
MAX_WAIT_S = 300.0
LOAD = AgentsLoad(
    kinds=2,
    system_tokens=600,
    task_tokens=400,
    turns=12.0,
    result_tokens=300,
    output_tokens=24,
    longest_tool_s=20.0,
    pause_s=0.5,
    context_tokens=6500,
)
_BEGIN_S = 5.0
"""The agents begin within that time."""
_WORD_BYTES = 4
"""Words of so many bytes, with the space before them, are as many bytes a token as the router
expects of a prompt."""
RULES = (OURS, "without the working set")


def agents() -> list[Arrival]:
    sample = [turn for arrival in LOAD.agents(20, 20, seed=1) for turn in turns(arrival.request)]
    session_tokens = sum(turn.prompt_tokens + turn.output_tokens for turn in sample) / len(sample)
    count = round(SUBSCRIPTION * KV_CACHE_TOKENS / session_tokens)
    rng = random.Random(3)
    return [
        replace(arrival, at_s=rng.uniform(0, _BEGIN_S))
        for arrival in LOAD.agents(count, TASKS, seed=2)
    ]


def without_working_set(dispatcher: Dispatcher) -> None:
    dispatcher._working_set = WorkingSet(dispatcher.fleet.sessions, max_waiting=0)


def simulated(spec: EngineSpec, rule: str, arrivals: Sequence[Arrival]) -> Figures:
    simulation = Simulation(
        spec, 1, POLICIES[OURS], output_tokens=LOAD.output_tokens, max_wait_s=MAX_WAIT_S
    )
    if rule != OURS:
        for dispatcher in simulation.dispatchers:
            without_working_set(dispatcher)
    result = simulation.run(arrivals, until_s=UNTIL_S)
    return figures(result.outcomes, len(arrivals), WARM_S, UNTIL_S)


def words(folder: Path) -> list[str]:
    """Returns words of one token."""
    tokenizer = Tekkenizer.from_file(folder / "tekken.json")
    every = (tokenizer.decode([i]) for i in range(tokenizer.num_special_tokens, tokenizer.n_words))
    return [
        one.strip()
        for one in every
        if one.startswith(" ") and len(one) == _WORD_BYTES and one.strip().isalpha()
    ]


class Agents:
    """The clients: each sends the turns of its tasks one after the other, and runs its tools, which
    sleep, between them."""

    def __init__(self, http: httpx.AsyncClient, words: Sequence[str]) -> None:
        self.outcomes: list[Outcome] = []
        self._http, self._words = http, words
        self._rng = random.Random(4)
        self._systems = [self._text(LOAD.system_tokens) for _ in range(LOAD.kinds)]
        self._begun_s = 0.0

    async def run(self, arrivals: Sequence[Arrival]) -> None:
        self._begun_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._work(arrival)) for arrival in arrivals]
            await asyncio.sleep(UNTIL_S)
            for task in tasks:
                task.cancel()

    async def _work(self, arrival: Arrival) -> None:
        await asyncio.sleep(arrival.at_s)
        session, context_tokens = None, 0
        messages: list[dict[str, str]] = []
        for turn in turns(arrival.request):
            if turn.session != session:
                session, context_tokens = turn.session, LOAD.system_tokens
                agent = int((session or "0").split("/")[0])
                messages = [{"role": "system", "content": self._systems[agent % LOAD.kinds]}]
            added = self._text(turn.prompt_tokens - context_tokens)
            messages.append({"role": "user", "content": added})
            messages.append({"role": "assistant", "content": await self._ask(turn, messages)})
            context_tokens = turn.prompt_tokens + turn.output_tokens
            await asyncio.sleep(turn.think_s)

    async def _ask(self, turn: Request, messages: Sequence[Mapping[str, str]]) -> str:
        """Has a turn answered, and returns the answer's text."""
        body = {
            "model": MODEL,
            "messages": messages,
            "max_tokens": turn.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        outcome = Outcome(turn, self._now_s(), 0)
        text = ""
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                if usage := event.get("usage"):
                    cached = usage["prompt_tokens_details"]["cached_tokens"]
                    # Of the prompt as planned; a template's tokens are beside it.
                    outcome.cached_tokens = min(cached, turn.prompt_tokens)
                for choice in event["choices"]:
                    if outcome.first_token_s is None:
                        outcome.first_token_s = self._now_s()
                    text += choice["delta"].get("content") or ""
        outcome.end_s = self._now_s()
        self.outcomes.append(outcome)
        return text or self._words[0]

    def _now_s(self) -> float:
        return time.monotonic() - self._begun_s

    def _text(self, tokens: int) -> str:
        return " ".join(self._rng.choices(self._words, k=max(tokens, 1)))


@contextlib.asynccontextmanager
async def routed(server: Server) -> AsyncIterator[LiveRouter]:
    rules = ModelRules(MODEL, "v7", SMALL_FLAGS["max-model-len"], image_limit=0)
    async with running_router(models=[Model(MODEL, (), rules)], max_wait_s=MAX_WAIT_S) as router:
        capacity = Capacity(KV_CACHE_TOKENS, MAX_NUM_SEQS)
        info = ReplicaInfo("engine", HOST, server.port, SMALL_FLAGS["max-model-len"], capacity)
        router.directory.update(MODEL, [info])
        yield router
        router.directory.update(MODEL, [])


async def measured(
    server: Server, rule: str, arrivals: Sequence[Arrival], words: Sequence[str]
) -> Figures:
    async with routed(server) as router:
        if rule != OURS:
            without_working_set(router.directory.models[MODEL].dispatcher)
        clients = Agents(router.http, words)
        await clients.run(arrivals)
    return figures(clients.outcomes, len(arrivals), WARM_S, UNTIL_S)


async def fitted(server: Server) -> EngineSpec:
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{server.port}", timeout=120) as http:
        spec = fit(*await sweep(http, random.Random(0)))
    return replace(spec, kv_cache_tokens=KV_CACHE_TOKENS)


@contextlib.contextmanager
def engine(flags: Mapping[str, Any], log: Path) -> Iterator[Server]:
    with ours(flags, log, TOKEN) as server:
        wait_until_ready({"the engine": server}, TOKEN)
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    console = Console(width=max(Console().width, 100))
    entry = catalogue.load(ENTRY)
    assert entry.embedded is not None
    folder = tiny_model_folder(entry.embedded)
    flags = {
        **SMALL_FLAGS,
        "tokenizer-mode": "mistral",
        "config-format": "mistral",
        "load-format": "mistral",
        "model": str(folder),
        "kv-cache-memory-bytes": round(KV_CACHE_TOKENS * _BYTES_PER_KV_TOKEN),
        "max-num-batched-tokens": MAX_NUM_BATCHED_TOKENS,
        "max-num-seqs": MAX_NUM_SEQS,
    }
    arrivals = agents()
    real: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="agents-live-") as logs:
        log = Path(logs) / "vllm.log"
        with plain(flags, log) as server:
            wait_until_ready({"vLLM": server})
            spec = asyncio.run(fitted(server))
        for rule in RULES:
            with engine(flags, log) as server:
                real[rule] = asyncio.run(measured(server, rule, arrivals, words(folder)))
    console.print(
        f"{len(arrivals)} agents on {os.cpu_count()} cores; an infinite cache hits "
        f"{hit_rate_ceiling(arrivals):.1%}; fitted: "
        f"{spec.step_time.prefill_tokens_per_s:,.0f} prompt tokens/s, a step of "
        f"{1000 * spec.step_time.overhead_s:.1f} ms"
    )
    console.print(table("real vLLM", real))
    in_simulation = {rule: simulated(spec, rule, arrivals) for rule in RULES}
    console.print(table("simulated", in_simulation))


if __name__ == "__main__":
    main()
