"""What a tenant learns of another's prompts from headers and the time to its first token: nothing.

Requests are read and placed by the router's own code, and answered by simulated engines, whose
caches hold what a real one's would by the head and body that it is sent.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from mmh3 import hash64

from serving.config import RouterConfig
from serving.dispatch import Outcome as Ended
from serving.dispatch import Rejection
from serving.placement import Capacity, Prefix, prefix_of, prompt_parts
from serving.placement.prompt_parts import Kind
from serving.router.proxy.cache_salt import CacheSalts
from serving.router.proxy.exchange import Exchange, ExchangeReader
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.telemetry.request_record import RequestRecord
from serving.simulator.engine import Engine, EngineSpec
from serving.simulator.request import Outcome, Request
from serving.simulator.step_time import StepTime
from serving.tenants import Caller, Tenant
from tests.support.live_router import CHAT, MODEL, RULES
from tests.support.roc import area_under_roc

STEP_TIME = StepTime(10_000, weights_s=0.01, kv_token_s=1e-7, attention_s=0.0)
CAPACITY = Capacity(kv_cache_tokens=1_000_000, max_num_seqs=64)
PUBLIC = "You are a helpful assistant. " * 100
JITTER_S = 0.05
"""Mean of what networks and other requests add to a time to first token, exponentially."""


@dataclass
class Seen:
    """What the client of a request sees of it."""

    replica: int
    prompt_tokens: int
    expected_cached_tokens: int
    cached_tokens: int
    ttft_s: float

    def measures(self) -> dict[str, float]:
        return vars(self)


@dataclass
class Service:
    """A router with simulated engines, on a clock of its own."""

    tenants: int
    """The number of tenants configured."""
    public: str | None = None
    now_s: float = field(default_factory=time.monotonic)
    jitter: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        rules = replace(RULES, public_system_prompts=(self.public,) if self.public else ())
        self.directory = Directory(
            [Model(MODEL, rules=rules)], RouterConfig(), HealthCheck("token", 1)
        )
        self.dispatcher = self.directory.models[MODEL].dispatcher
        self.dispatcher.update({str(i): CAPACITY for i in range(4)}, self.now_s, [])
        self.engines = [Engine(EngineSpec(STEP_TIME, CAPACITY.kv_cache_tokens)) for _ in range(4)]
        self.reader = ExchangeReader(
            self.directory, "token", CacheSalts("token", self.tenants), default_priority=5
        )

    def read(self, tenant: str, messages: list[Any]) -> Exchange:
        body = {"model": MODEL, "messages": messages, "stream": True}
        headers: list[Any] = [(b"x-cache-salt", b"guessed")]
        scope = {
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
            "method": "POST",
            "headers": headers,
        }
        unused: Any = None
        caller = Caller(Tenant(name=tenant), max_priority=9)
        record = RequestRecord(datetime.now(UTC), "id", CHAT)
        return self.reader.read(
            scope, json.dumps(body).encode(), body, caller, unused, unused, record, 0.0
        )

    def ask(self, tenant: str, *messages: tuple[str, str]) -> Seen:
        """Has a tenant ask, and waits for the whole answer and a little longer."""
        exchange = self.read(tenant, [{"role": r, "content": text} for r, text in messages])
        reservation = self.dispatcher.submit(exchange.demand, self.now_s)
        assert not isinstance(reservation, Rejection)
        assert reservation.replica_id is not None
        replica, sent_s = int(reservation.replica_id), self.now_s
        prefix = self._cached_by_an_engine(exchange)
        outcome = Outcome(Request(prefix, 10, hash64(repr(prefix.hashes))[0]), sent_s, replica)
        engine = self.engines[replica]
        engine.submit(outcome, sent_s)
        while engine.next_s is not None:
            self.now_s = engine.next_s
            firsts, _ = engine.advance(self.now_s)
            if firsts:
                self.dispatcher.first_token(reservation, self.now_s)
        self.dispatcher.release(reservation, Ended.SERVED, self.now_s, 10)
        self.now_s += 1
        assert outcome.ttft_s is not None
        return Seen(
            replica,
            prefix.tokens,
            reservation.cached_tokens,
            outcome.cached_tokens,
            outcome.ttft_s + self.jitter.expovariate(1 / JITTER_S),
        )

    def _cached_by_an_engine(self, exchange: Exchange) -> Prefix:
        """Returns the chain of blocks in an engine's cache, which it knows by what it is sent."""
        (salt,) = [
            line
            for line in exchange.head.split(b"\r\n")
            if line.startswith(b"x-cache-salt: ") and line != b"x-cache-salt: guessed"
        ] or [b""]
        assert b"guessed" not in exchange.head
        body = json.loads(exchange.request.body)
        parts = prompt_parts(CHAT, body, tools_first=False)
        shared = parts[0] == (Kind.SYSTEM, self.public)
        return prefix_of(parts, hash64(salt)[0] if salt else 0, salted_from=1 if shared else 0)


def prompt(number: float) -> tuple[str, str]:
    """Returns a turn of the user's with about 1,000 tokens, which shares nothing with another."""
    return "user", f"{number} " + "Summarise this contract. " * 160


def areas(service: Service, attacker: str, probes: int) -> dict[str, float]:
    """Has `victim` ask in half of the cases what the attacker then asks, and something else in the
    others. Returns for each measure of the attacker's how well it tells the cases apart."""
    seen: tuple[list[Seen], list[Seen]] = ([], [])
    cases = random.Random(2)
    for number in range(probes):
        same = cases.random() < 0.5
        service.ask("victim", prompt(number if same else number + 0.5))
        seen[same].append(service.ask(attacker, prompt(number)))
    return {
        name: area_under_roc(*([one.measures()[name] for one in seen[same]] for same in (1, 0)))
        for name in seen[0][0].measures()
    }


def test_two_thousand_probes_tell_nothing_of_another_tenants_prompts() -> None:
    found = areas(Service(tenants=2), "attacker", probes=2000)
    assert {name: area for name, area in found.items() if not 0.45 <= area <= 0.55} == {}


def test_nor_do_they_where_the_system_prompt_is_public() -> None:
    service = Service(tenants=2, public=PUBLIC)
    for tenant in ("victim", "attacker"):
        service.ask(tenant, ("system", PUBLIC), prompt(-1))
    found = areas(service, "attacker", probes=500)
    assert {name: area for name, area in found.items() if not 0.4 <= area <= 0.6} == {}


@pytest.mark.parametrize(
    ("tenants", "attacker"),
    [pytest.param(1, "attacker", id="not isolated"), pytest.param(2, "victim", id="the same")],
)
def test_where_prompts_are_shared_the_same_probes_tell(tenants: int, attacker: str) -> None:
    found = areas(Service(tenants), attacker, probes=200)
    assert found["cached_tokens"] == found["expected_cached_tokens"] == 1
    assert found["ttft_s"] < 0.1


def conversations(tenants: int, system: str | None) -> Iterator[tuple[str, list[Any]]]:
    """Yields the requests of conversations of three turns, two of each tenant."""
    begin = [] if system is None else [("system", system)]
    for turn in range(1, 4):
        for tenant in range(tenants):
            for talk in range(2):
                turns: list[Any] = [*begin]
                for earlier in range(turn):
                    turns += [prompt(tenant * 100 + talk * 10 + earlier), ("assistant", "Done.")]
                yield f"tenant-{tenant}", turns[:-1]


def hit_rate(service: Service, system: str | None) -> float:
    """Returns the part of all prompt tokens that the engines had cached."""
    seen = [service.ask(tenant, *turns) for tenant, turns in conversations(8, system)]
    return sum(one.cached_tokens for one in seen) / sum(one.prompt_tokens for one in seen)


def test_a_tenant_finds_its_own_prompts_as_often_as_before() -> None:
    shared, isolated = (hit_rate(Service(tenants), None) for tenants in (1, 8))
    assert isolated == shared > 0.4


def test_a_public_system_prompt_is_found_as_often_as_without_salts() -> None:
    shared = hit_rate(Service(1), PUBLIC)
    public = hit_rate(Service(8, PUBLIC), PUBLIC)
    isolated = hit_rate(Service(8), PUBLIC)
    assert abs(shared - public) < 0.02
    assert isolated < public - 0.03


def test_the_same_body_of_two_tenants_is_two_requests_to_the_queue() -> None:
    """Else one tenant could redeem, and so find, the retry reservation of another."""
    keys = [Service(2).read(tenant, [prompt(1)]).demand.key for tenant in ("a", "a", "b")]
    assert keys[0] == keys[1] != keys[2]
