"""The counts that an engine keeps for the routers, and what it serves of them."""

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from serving.engine.usage_journal import UsageJournal
from serving.engine.vllm.front_end import FrontEnd
from serving.engine_protocol import EngineUsage
from serving.ledger.tokens import Tokens
from tests.engine.asking import BODIES, CHAT, COMPLETIONS, NAMES, Exchange
from tests.engine.fake_llm import EOS, WAITS, FakeLlm, Part, ids, text
from tests.support.reading import RULES
from tests.support.waiting import eventually

A, B = Tokens(5, 2, 10, 5, 11), Tokens(1, 1, 1, 1, 1)


def counted(journal: UsageJournal, usage_id: bytes, *counts: Tokens) -> None:
    with journal.meter(usage_id) as meter:
        meter.sources += [lambda one=one: one for one in counts]  # type: ignore[misc]


def test_running_requests_are_told_apart_from_ended_ones() -> None:
    journal = UsageJournal()
    with journal.meter(b"r/1") as meter:
        meter.sources.append(lambda: A)
        assert journal.report(b"router=r&after=0") == EngineUsage({1: A}, {}, 0)
    assert journal.report(b"router=r&after=0") == EngineUsage({}, {1: A}, 1)


def test_counts_are_kept_until_their_router_has_confirmed_them() -> None:
    journal = UsageJournal()
    counted(journal, b"r/1", A)
    assert journal.report(b"router=r&after=0").ended == {1: A}
    counted(journal, b"r/2", B)
    assert journal.report(b"router=r&after=0").ended == {1: A, 2: B}
    assert journal.report(b"router=r&after=1").ended == {2: B}
    assert journal.unclaimed == 1
    assert journal.report(b"router=r&after=2") == EngineUsage({}, {}, 2)
    assert not journal.unclaimed


def test_each_router_learns_of_its_own_requests() -> None:
    journal = UsageJournal()
    counted(journal, b"r/1", A)
    counted(journal, b"s/1", B)
    assert journal.report(b"router=r&after=0").ended == {1: A}
    assert journal.report(b"router=s&after=0").ended == {1: B}


def test_a_request_that_was_generated_twice_counts_twice() -> None:
    journal = UsageJournal()
    counted(journal, b"r/1", A, B)
    assert journal.report(b"router=r&after=0").ended == {1: Tokens(6, 3, 11, 6, 12)}


@pytest.mark.parametrize("usage_id", [b"", b"r", b"r/", b"r/x", b"/1", b"\xff"])
def test_nothing_is_kept_of_a_request_without_a_proper_id(usage_id: bytes) -> None:
    journal = UsageJournal()
    counted(journal, usage_id, A)
    assert not journal.unclaimed


def test_routers_that_are_gone_make_way() -> None:
    journal = UsageJournal()
    for n in range(1000):
        counted(journal, b"router-%d/1" % n, A)
    assert journal.unclaimed <= 64


@pytest.mark.parametrize("query", [b"", b"router=r", b"router=r&after=x", b"router=%ff&after=-1"])
def test_a_question_that_says_little_is_answered(query: bytes) -> None:
    assert UsageJournal().report(query) == EngineUsage({}, {}, 0)


class Asked:
    """Requests to one front end, and the counts that it reports."""

    def __init__(self, engine: FakeLlm) -> None:
        self.engine = engine
        self.app = FrontEnd(engine, NAMES, RULES, None)
        self._numbers = iter(range(1, 100))

    async def post(self, path: str, **fields: Any) -> httpx.Response:
        headers = {"x-usage-id": f"r/{next(self._numbers)}"}
        return await self._http("POST", path, headers=headers, json=BODIES[path] | fields)

    async def usage(self) -> EngineUsage:
        response = await self._http("GET", "/usage?router=r&after=0")
        return msgspec.json.decode(response.content, type=EngineUsage)

    async def _http(self, method: str, path: str, **rest: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as http:
            return await http.request(method, path, **rest)

    def assert_sum(self, *counts: Tokens) -> None:
        assert sum(one.generated for one in counts) == self.engine.generated_tokens
        assert sum(one.read for one in counts) == self.engine.read_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_counted_as_its_usage_says(stream: bool) -> None:
    asked = Asked(FakeLlm(cached_tokens=3))
    await asked.post(CHAT, stream=stream)
    (counts,) = (await asked.usage()).ended.values()
    generated = len(ids("Hello")) + 1
    assert (counts.cached, counts.output, counts.generated) == (3, generated, generated)
    assert counts.input == counts.read > 0
    asked.assert_sum(counts)


async def test_what_was_generated_behind_a_stop_string_is_counted_as_generated_alone() -> None:
    parts = [Part(ids("Hello there, you")), Part([EOS], "stop")]
    asked = Asked(FakeLlm(parts))
    answer = await asked.post(COMPLETIONS, stop=["lo"])
    (counts,) = (await asked.usage()).ended.values()
    assert counts.output == answer.json()["usage"]["completion_tokens"] < counts.generated
    asked.assert_sum(counts)


async def test_each_choice_reads_the_prompt() -> None:
    asked = Asked(FakeLlm())
    answer = await asked.post(CHAT, n=3)
    (counts,) = (await asked.usage()).ended.values()
    usage = answer.json()["usage"]
    assert (counts.input, counts.output) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert counts.read == 3 * counts.input
    asked.assert_sum(counts)


async def test_a_request_without_an_answer_is_known_to_have_used_nothing() -> None:
    asked = Asked(FakeLlm())
    assert (await asked.post(CHAT, messages=[])).status_code == 400
    assert (await asked.usage()).ended == {1: Tokens()}


async def test_a_client_that_leaves_ends_the_count() -> None:
    asked = Asked(FakeLlm([*text("Hello")[:3], WAITS]))
    client = Exchange(CHAT, {"stream": True})
    scope = client.scope | {"headers": [(b"x-usage-id", b"r/1")]}
    answering = asyncio.create_task(asked.app(scope, client.receive, client.send))
    await eventually(lambda: asked.engine.calls and asked.engine.calls[0].waits)
    (running,) = (await asked.usage()).running.values()
    assert running.generated == 3
    client.leave()
    await answering
    assert (await asked.usage()).ended == {1: running}
    asked.assert_sum(running)
