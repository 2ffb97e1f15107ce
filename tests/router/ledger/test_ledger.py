"""What a router puts into the usage ledger, by the entries and the endpoint that show it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from serving.config import ResponsesConfig
from serving.ledger.entry import ROUTER_ENDED, Entry, read_lines
from serving.ledger.folder import CLOSED_S, LedgerFolder, snapshot_name
from serving.router.ledger import ledger as room
from tests.router.proxy.test_hand_over import Draining, drain
from tests.router.telemetry.test_metrics import scrape
from tests.support.engines import Engine, IsUnavailable, Refuses, Steered
from tests.support.live_router import (
    IMPATIENT,
    MESSAGES,
    MODEL,
    ON_BACKEND,
    CountedRelay,
    LiveRouter,
    StartRouter,
)
from tests.support.response_engine import ResponseEngine
from tests.support.stand_in_engine import PROMPT_TOKENS
from tests.support.storyteller import PROMPT_TOKENS as STORY_PROMPT_TOKENS
from tests.support.storyteller import STORY, Storyteller, breaking, resets
from tests.support.waiting import eventually

ASK: dict[str, Any] = {"messages": MESSAGES}
STREAM: dict[str, Any] = {**ASK, "stream": True}


class Slow(Engine):
    interval_s = 0.01


def segments(folder: Path) -> list[Path]:
    return [path for _, path in LedgerFolder(folder).segments()]


def entries(folder: Path) -> list[Entry]:
    (path,) = segments(folder)
    found, _, damaged = read_lines(path.read_bytes())
    assert not damaged
    return found


async def settled(router: LiveRouter) -> None:
    """Returns once all requests have their entries, and the engines know that they are."""
    assert router.ledger is not None
    relay = cast(CountedRelay, router.app._relay)
    await eventually(lambda: relay.requests_in_flight == 0)
    async with asyncio.timeout(5):
        while router.ledger.in_flight or router.ledger.unwritten:
            await router.ledger.write()
    await router.ledger.write()


def counts(entry: Entry) -> tuple[int, int, int, int]:
    """Input, output, repeated input and wasted output tokens; none may be estimated."""
    assert not entry.estimated
    tokens = entry.input_tokens, entry.output_tokens
    return *tokens, entry.repeated_input_tokens, entry.wasted_output_tokens


def assert_sum_is_that_of_the_engines(router: LiveRouter, found: list[Entry]) -> None:
    read = sum(entry.input_tokens + entry.repeated_input_tokens for entry in found)
    generated = sum(entry.output_tokens + entry.wasted_output_tokens for entry in found)
    assert read == sum(engine.read_tokens for engine in router.engines)
    assert generated == sum(engine.generated_tokens for engine in router.engines)
    assert not any(engine.journal.unclaimed for engine in router.engines)


@pytest.mark.parametrize("fields", [ASK, STREAM])
async def test_an_answer_is_an_entry_with_the_engines_counts(
    start_router: StartRouter, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """Without `stream_options` too, where the answer does not tell its usage."""
    router = await start_router(Engine, ledger_folder=tmp_path)
    await router.chat({"x-request-id": "id-1"}, **fields)
    await settled(router)
    (entry,) = entries(tmp_path)
    assert counts(entry) == (PROMPT_TOKENS, 16, 0, 0)
    assert (entry.request_id, entry.tenant, entry.model) == ("id-1", "default", MODEL)
    assert entry.outcome == "answered"
    assert_sum_is_that_of_the_engines(router, [entry])


async def test_what_was_generated_until_its_client_left_is_the_clients(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(Slow, ledger_folder=tmp_path)
    response = await router.open_stream(**ASK, max_tokens=1000)
    await anext(response.aiter_bytes())
    await response.aclose()
    await settled(router)
    (entry,) = entries(tmp_path)
    generated = router.engines[0].generated_tokens
    assert 1 <= generated < 1000
    assert counts(entry) == (PROMPT_TOKENS, generated, 0, 0)
    assert entry.outcome == "client_gone"


async def test_a_continued_stream_is_one_answer_and_what_was_read_again_is_told_apart(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(
        breaking(3, resets), breaking(4, resets), Storyteller, ledger_folder=tmp_path
    )
    await router.chat(**STREAM)
    await settled(router)
    (entry,) = entries(tmp_path)
    repeated = (STORY_PROMPT_TOKENS + 3) + (STORY_PROMPT_TOKENS + 7)
    assert counts(entry) == (STORY_PROMPT_TOKENS, len(STORY), repeated, 0)
    assert (entry.continued, entry.retries) == (2, 2)
    assert_sum_is_that_of_the_engines(router, [entry])


async def test_a_stream_that_was_handed_over_is_one_answer(
    start_router: StartRouter, tmp_path: Path
) -> None:
    """What the first replica had generated beyond what was delivered is wasted, and no more."""
    router = await start_router(Draining, Storyteller, check_period_s=0.02, ledger_folder=tmp_path)
    answer = asyncio.create_task(router.chat(**STREAM))
    metrics = router.directory.models[MODEL].metrics
    await eventually(lambda: len(metrics.ttft) > 0)
    drain(router, 1)
    assert (await answer).status_code == 200
    await settled(router)
    (entry,) = entries(tmp_path)
    first, second = router.engines
    assert (entry.input_tokens, entry.output_tokens) == (STORY_PROMPT_TOKENS, len(STORY))
    assert entry.repeated_input_tokens == second.read_tokens
    assert entry.wasted_output_tokens == (
        first.generated_tokens + second.generated_tokens - len(STORY)
    )
    assert (entry.continued, entry.retries, entry.estimated) == (1, 0, False)
    assert_sum_is_that_of_the_engines(router, [entry])


async def test_what_was_delivered_of_a_broken_stream_is_billed(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(breaking(3, resets), Storyteller, ledger_folder=tmp_path)
    with pytest.raises(httpx.RemoteProtocolError):
        await router.chat(**STREAM, n=2)
    await settled(router)
    (entry,) = entries(tmp_path)
    assert counts(entry) == (STORY_PROMPT_TOKENS, 3, 0, 0)
    assert entry.outcome == "broken"


class FailsAtTheEnd(Engine):
    """Generates an answer, and breaks off before any of it was sent."""

    def respond(self, request: dict[str, Any]) -> None:
        self.answer(request)
        self.reset()


async def test_an_answer_that_was_generated_twice_is_billed_once(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(
        FailsAtTheEnd, Engine, placement="round_robin", ledger_folder=tmp_path
    )
    for _ in range(2):
        assert (await router.chat(**ASK)).status_code == 200
    await settled(router)
    first, second = sorted(map(counts, entries(tmp_path)))
    assert first == (PROMPT_TOKENS, 16, 0, 0)
    assert second == (PROMPT_TOKENS, 16, PROMPT_TOKENS, 16)
    assert_sum_is_that_of_the_engines(router, entries(tmp_path))


async def test_nobody_is_billed_for_an_answer_that_all_replicas_failed(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(FailsAtTheEnd, ledger_folder=tmp_path, backoff_s=0.01)
    assert (await router.chat(**ASK)).status_code == 503
    await settled(router)
    (entry,) = entries(tmp_path)
    tries = router.engines[0].requests
    assert counts(entry) == (0, 0, tries * PROMPT_TOKENS, tries * 16)
    assert entry.outcome == "replicas_failed"


@pytest.mark.parametrize("taken", [IsUnavailable, Refuses])
async def test_a_replica_that_takes_no_request_is_not_waited_for(
    start_router: StartRouter, tmp_path: Path, taken: type[Engine]
) -> None:
    router = await start_router(taken, Engine, placement="round_robin", ledger_folder=tmp_path)
    for _ in range(2):
        await router.chat(**ASK)
    await settled(router)
    assert list(map(counts, entries(tmp_path))) == [(PROMPT_TOKENS, 16, 0, 0)] * 2


async def test_what_no_replica_was_sent_is_no_entry(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(**IMPATIENT, ledger_folder=tmp_path)
    assert (await router.chat(**ASK)).status_code == 503
    assert (await router.chat(model="unknown")).status_code == 404
    await settled(router)
    assert not segments(tmp_path)


@pytest.mark.parametrize("path", ["/tokenize", "/v1/messages/count_tokens"])
async def test_what_generates_nothing_is_no_entry(
    start_router: StartRouter, tmp_path: Path, path: str
) -> None:
    router = await start_router(Engine, ledger_folder=tmp_path)
    await router.http.post(path, json={"model": MODEL, "messages": MESSAGES})
    await settled(router)
    assert not segments(tmp_path)
    assert router.engines[0].received[0].header(b"x-usage-id") is None


async def test_a_client_cannot_choose_where_its_usage_is_counted(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(Engine, ledger_folder=tmp_path)
    await router.chat({"x-usage-id": "another/1"}, **ASK)
    (request,) = router.engines[0].received
    sent = [value for name, value in request.headers if name.lower() == b"x-usage-id"]
    assert sent == [b"router-0/1"]


async def test_without_the_engines_counts_the_routers_own_are_taken_and_said_to_be_estimated(
    start_router: StartRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "GIVE_UP_S", 0.0)
    router = await start_router(Steered, ledger_folder=tmp_path)
    answer, engine = await router.begin(**STREAM)
    engine.begin_stream(*[b"data: {}\n\n"] * 3)
    engine.end_stream()
    await answer
    await settled(router)
    (entry,) = entries(tmp_path)
    assert (entry.output_tokens, entry.estimated) == (3, True)
    assert entry.input_tokens > 0


async def test_another_servers_answer_is_counted_by_what_it_reports(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(Engine, models=[ON_BACKEND], ledger_folder=tmp_path)
    await router.chat(**ASK)
    await router.chat(**STREAM, stream_options={"include_usage": True})
    await settled(router)
    found = entries(tmp_path)
    assert [(entry.input_tokens, entry.output_tokens) for entry in found] == [
        (PROMPT_TOKENS, 16)
    ] * 2
    assert all(entry.estimated for entry in found)
    assert router.engines[0].received[0].header(b"x-usage-id") is None


async def test_a_response_in_the_background_is_one_entry(
    start_router: StartRouter, tmp_path: Path
) -> None:
    stored = ResponsesConfig(folder=str(tmp_path / "responses"))
    router = await start_router(ResponseEngine, responses=stored, ledger_folder=tmp_path / "usage")
    body = {"model": MODEL, "input": "Hello", "background": True}
    created = (await router.http.post("/v1/responses", json=body)).json()
    await settled(router)
    retrieved = await router.http.get(f"/v1/responses/{created['id']}")
    assert retrieved.json()["status"] == "completed"
    (entry,) = entries(tmp_path / "usage")
    assert (entry.background, entry.outcome) == (True, "answered")


async def test_the_endpoint_sums_up_by_what_it_is_asked(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(Engine, ledger_folder=tmp_path)
    for _ in range(3):
        await router.chat(**ASK)
    await settled(router)
    whole = (await router.http.get("/-/usage")).json()
    (row,) = whole["rows"]
    assert (row["tenant"], row["key"], row["model"]) == ("default", None, MODEL)
    assert (row["requests"], row["output_tokens"]) == (3, 48)
    assert whole["last"] == row["day"]
    (row,) = (await router.http.get("/-/usage?by=tenant")).json()["rows"]
    assert (row["tenant"], row["day"], row["model"]) == ("default", None, None)
    nothing = await router.http.get("/-/usage?from=2001-01-01&to=2001-12-31")
    assert nothing.json()["rows"] == []


@pytest.mark.parametrize("query", ["from=yesterday", "to=2026-13-01", "by=colour", "by=day,day"])
async def test_the_endpoint_says_what_it_does_not_understand(
    start_router: StartRouter, tmp_path: Path, query: str
) -> None:
    router = await start_router(Engine, ledger_folder=tmp_path)
    response = await router.http.get(f"/-/usage?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.partition("=")[0]


async def test_the_metrics_of_tenants_are_those_of_the_ledger(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(
        FailsAtTheEnd, Engine, placement="round_robin", ledger_folder=tmp_path
    )
    for _ in range(2):
        await router.chat(**ASK)
    await settled(router)
    of_router = await scrape(router, 2)
    tenant = 'tenant="default"'
    assert of_router[f"tenant_requests_total{{{tenant}}}"] == 2
    assert of_router[f'tenant_tokens_total{{{tenant},type="output"}}'] == 32
    assert of_router[f'tenant_wasted_tokens_total{{{tenant},type="output"}}'] == 16
    assert of_router["ledger_unwritten_entries"] == 0


async def test_entries_wait_for_a_disk_that_takes_none(
    start_router: StartRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, moved = tmp_path / "usage", tmp_path / "moved"
    router = await start_router(Engine, ledger_folder=folder)
    assert router.ledger is not None
    folder.rename(moved)
    for _ in range(2):
        await router.chat(**ASK)
        await router.ledger.write()
    assert router.ledger.unwritten == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    moved.rename(folder)
    await settled(router)
    assert len(entries(folder)) == 2


async def test_an_entry_is_written_once_though_the_snapshot_behind_it_cannot_be(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(Engine, ledger_folder=tmp_path)
    assert router.ledger is not None
    in_the_way = tmp_path / f".{snapshot_name('router-0')}.new"
    in_the_way.mkdir()
    await router.chat(**ASK)
    async with asyncio.timeout(5):
        while not segments(tmp_path):
            await router.ledger.write()
    in_the_way.rmdir()
    await settled(router)
    assert len(entries(tmp_path)) == 1


async def test_a_router_that_another_took_for_dead_writes_nothing_twice(
    start_router: StartRouter, tmp_path: Path
) -> None:
    router = await start_router(Steered, ledger_folder=tmp_path)
    assert router.ledger is not None
    answer, engine = await router.begin(**ASK)
    await router.ledger.write()
    later = datetime.now(UTC) + timedelta(seconds=CLOSED_S + 1)
    LedgerFolder(tmp_path).tidy(later, keep_days=400, keep_entries_days=7)
    engine.proceed()
    await answer
    await settled(router)
    assert [entry.outcome for entry in entries(tmp_path)] == [ROUTER_ENDED]
    answer, engine = await router.begin(**ASK)
    engine.proceed()
    await answer
    await settled(router)
    assert [entry.outcome for entry in entries(tmp_path)] == [ROUTER_ENDED, "answered"]
