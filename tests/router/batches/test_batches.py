"""Batches through OpenAI's client."""

import json
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from serving.config import BatchesConfig
from serving.dispatch import TenantLimits
from serving.router.batches.store import BatchStore
from serving.tenants import Tenant
from tests.support.batch_files import ENDPOINT, answers, begun, encoded, ended, line, lines
from tests.support.engines import Engine, Steered
from tests.support.keys import key_record, keys_of
from tests.support.live_router import CHAT, LiveRouter, StartRouter
from tests.support.waiting import eventually


class RefusesOne(Engine):
    """Refuses requests of the temperature -1."""

    def respond(self, request: dict[str, Any]) -> None:
        if request.get("temperature") == -1:
            body = b'{"error": {"message": "temperature must be at least 0"}}'
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            self.transport.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        else:
            super().respond(request)


async def test_a_batch_is_answered_line_by_line(
    start_router: StartRouter, stored: BatchesConfig
) -> None:
    router = await start_router(RefusesOne, batches=stored)
    bad = line("bad", temperature=-1)
    batch = await begun(router.openai, lines(30) + encoded(bad), metadata={"purpose": "a test"})
    assert batch.status == "validating"
    assert batch.expires_at == batch.created_at + 24 * 3600
    batch = await ended(router.openai, batch.id)
    assert batch.status == "completed" and batch.metadata == {"purpose": "a test"}
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    counts = batch.request_counts
    assert counts is not None and (counts.total, counts.completed, counts.failed) == (31, 30, 1)
    answered = await answers(router.openai, batch.output_file_id)
    assert set(answered) == {f"line-{number}" for number in range(30)}
    for answer in answered.values():
        assert answer["error"] is None and answer["response"]["status_code"] == 200
        assert answer["response"]["body"]["object"] == "chat.completion"
    (failure,) = (await answers(router.openai, batch.error_file_id)).values()
    assert failure["custom_id"] == "bad" and failure["response"]["status_code"] == 400
    assert failure["response"]["body"]["error"]["message"] == "temperature must be at least 0"
    output = await router.openai.files.retrieve(batch.output_file_id or "")
    assert output.purpose == "batch_output" and output.bytes
    logged = [json.loads(entry) for entry in router.lines]
    assert {(entry["batch_id"], entry["path"]) for entry in logged} == {(batch.id, CHAT)}


async def test_a_tenants_limits_do_not_apply_to_its_batches(
    start_router: StartRouter, stored: BatchesConfig, tmp_path: Path
) -> None:
    key = "sk-limited"
    router = await start_router(
        Engine,
        batches=stored,
        tenants=[Tenant(name="limited", limits=TenantLimits(requests_per_minute=1))],
        authentication=keys_of(tmp_path, key_record(key, "limited")),
    )
    client = router.openai.with_options(api_key=key)
    batch = await ended(client, (await begun(client, lines(5))).id)
    assert batch.request_counts is not None and batch.request_counts.completed == 5
    headers: Any = {"authorization": f"Bearer {key}"}
    assert (await router.chat(headers)).status_code == 200
    assert (await router.chat(headers)).status_code == 429


@pytest.mark.parametrize(
    ("content", "line_number", "message"),
    [
        (b"", None, "no requests in it"),
        (b"not JSON\n", 1, "JSON is malformed"),
        (lines(1) + lines(1), 2, "stands on two lines"),
        (encoded(line("a", url="/v1/completions")), 1, "must be the endpoint of the batch"),
        (encoded(line("a", stream=True)), 1, "must be absent or false"),
    ],
)
async def test_a_wrong_file_fails_the_batch_and_names_the_line(
    router: LiveRouter, content: bytes, line_number: int | None, message: str
) -> None:
    batch = await ended(router.openai, (await begun(router.openai, content)).id)
    assert batch.status == "failed" and batch.failed_at and batch.output_file_id is None
    assert batch.errors is not None and batch.errors.data
    assert batch.errors.data[0].line == line_number
    assert message in (batch.errors.data[0].message or "")
    assert not router.engines[0].received


async def test_a_response_in_the_background_is_no_line_of_a_batch(router: LiveRouter) -> None:
    body = {"model": "any", "input": "Hi", "background": True}
    one = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    client = router.openai
    file = await client.files.create(file=("in.jsonl", encoded(one)), purpose="batch")
    begun = await client.batches.create(
        input_file_id=file.id, endpoint="/v1/responses", completion_window="24h"
    )
    batch = await ended(client, begun.id)
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data
    assert "`body.background` must be absent or false" in (batch.errors.data[0].message or "")
    assert not router.engines[0].received


async def test_output_files_are_kept_as_long_as_the_batch_says(
    start_router: StartRouter, stored: BatchesConfig
) -> None:
    router = await start_router(RefusesOne, batches=stored)
    content = lines(1) + encoded(line("bad", temperature=-1))
    batch = await begun(
        router.openai, content, output_expires_after={"anchor": "created_at", "seconds": 3600}
    )
    batch = await ended(router.openai, batch.id)
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = await router.openai.files.retrieve(file_id or "")
        assert file.expires_at == file.created_at + 3600
    assert router.batches is not None
    router.batches.store.clock = lambda: time.time() + 3601
    with pytest.raises(openai.NotFoundError):
        await router.openai.files.content(batch.output_file_id or "")
    router.batches.store.clock = time.time
    longer = {"anchor": "created_at", "seconds": int(stored.keep_s) + 5}
    batch = await ended(
        router.openai, (await begun(router.openai, content, output_expires_after=longer)).id
    )
    file = await router.openai.files.retrieve(batch.output_file_id or "")
    assert file.expires_at == file.created_at + stored.keep_s


async def test_a_cancelled_batch_keeps_what_was_answered(
    start_router: StartRouter, stored: BatchesConfig
) -> None:
    router = await start_router(Steered, batches=stored)
    batch = await begun(router.openai, lines(3))
    (await router.asked()).proceed()
    await router.asked()
    cancelling = await router.openai.batches.cancel(batch.id)
    assert cancelling.status in ("cancelling", "cancelled") and cancelling.cancelling_at
    batch = await ended(router.openai, batch.id)
    assert batch.status == "cancelled" and batch.cancelled_at
    assert len(await answers(router.openai, batch.output_file_id)) == 1
    with pytest.raises(openai.ConflictError):
        await router.openai.batches.cancel(batch.id)


async def test_a_batch_that_is_not_done_in_time_expires_and_says_which_lines_are_missing(
    start_router: StartRouter, stored: BatchesConfig
) -> None:
    router = await start_router(Steered, batches=stored)
    assert router.batches is not None
    batch = await begun(router.openai, lines(3))
    (await router.asked()).proceed()
    await router.asked()
    router.batches.store.clock = lambda: time.time() + 24 * 3600
    batch = await ended(router.openai, batch.id)
    assert batch.status == "expired" and batch.expired_at
    answered = await answers(router.openai, batch.output_file_id)
    missing = await answers(router.openai, batch.error_file_id)
    assert len(answered) == 1 and len(missing) == 2
    assert {answer["error"]["code"] for answer in missing.values()} == {"batch_expired"}
    assert not set(answered) & set(missing)


async def test_batches_are_listed_in_pages(
    start_router: StartRouter, stored: BatchesConfig
) -> None:
    router = await start_router(Engine, batches=stored)
    ids = [(await begun(router.openai, lines(1))).id for _ in range(5)]
    listed = [batch.id async for batch in router.openai.batches.list(limit=2)]
    assert listed == ids[::-1]
    with pytest.raises(openai.NotFoundError):
        await router.openai.batches.retrieve("batch_" + "0" * 32)
    with pytest.raises(openai.BadRequestError):
        await router.openai.batches.list(limit=1000)
    for batch_id in ids:
        await ended(router.openai, batch_id)


async def test_no_tenant_sees_anothers_files_and_batches(
    start_router: StartRouter, stored: BatchesConfig, tmp_path: Path
) -> None:
    keys = keys_of(tmp_path, key_record("the-clients-key", "a"), key_record("another-key", "b"))
    tenants = [Tenant(name=name) for name in "ab"]
    router = await start_router(Engine, batches=stored, tenants=tenants, authentication=keys)
    batch = await ended(router.openai, (await begun(router.openai, lines(2))).id)
    assert json.loads(router.lines[0])["tenant"] == "a"
    other = router.openai.with_options(api_key="another-key")
    assert [file async for file in other.files.list()] == []
    assert [one async for one in other.batches.list()] == []
    assert batch.output_file_id is not None
    for attempt in (
        other.files.retrieve(batch.input_file_id),
        other.files.content(batch.output_file_id),
        other.files.delete(batch.input_file_id),
        other.batches.retrieve(batch.id),
        other.batches.cancel(batch.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt
    with pytest.raises(openai.BadRequestError, match="No such file"):
        await other.batches.create(
            input_file_id=batch.input_file_id, endpoint=ENDPOINT, completion_window="24h"
        )
    with pytest.raises(openai.AuthenticationError):
        await router.openai.with_options(api_key="wrong").batches.list()


async def test_a_batch_may_do_what_the_key_may_that_created_it(
    start_router: StartRouter, stored: BatchesConfig, tmp_path: Path
) -> None:
    record = key_record(
        "the-clients-key", "a", models=("other",), endpoints=("/v1/files", "/v1/batches", CHAT)
    )
    router = await start_router(
        Engine,
        batches=stored,
        tenants=[Tenant(name="a")],
        authentication=keys_of(tmp_path, record),
    )
    batch = await ended(router.openai, (await begun(router.openai, lines(2))).id)
    failures = await answers(router.openai, batch.error_file_id)
    codes = {one["response"]["body"]["error"]["code"] for one in failures.values()}
    assert codes == {"model_not_allowed"} and not router.engines[0].received
    with pytest.raises(openai.PermissionDeniedError):
        await router.openai.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/responses", completion_window="24h"
        )


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("endpoint", "/v1/embeddings", "endpoint"),
        ("completion_window", "1h", "completion_window"),
        ("input_file_id", "../secrets", "input_file_id"),
        ("input_file_id", None, "input_file_id"),
        ("metadata", {"name": "x" * 513}, "metadata"),
        *[
            ("output_expires_after", {"anchor": "created_at"} | value, f"output_expires_after.{of}")
            for value, of in (
                ({"seconds": 3599}, "seconds"),
                ({"seconds": "3600"}, "seconds"),
                ({"seconds": 10**30}, "seconds"),
                ({}, "seconds"),
                ({"seconds": 3600, "anchor": "last_active_at"}, "anchor"),
            )
        ],
    ],
)
async def test_a_wrong_request_for_a_batch_is_told_its_field(
    router: LiveRouter, field: str, value: Any, param: str
) -> None:
    file = await router.openai.files.create(file=("a.jsonl", lines(1)), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", field: value}
    response = await router.http.post("/v1/batches", json=body)
    assert response.status_code == 400 and response.json()["error"]["param"] == param


async def test_a_router_that_stops_leaves_its_batch_to_another(
    start_router: StartRouter, stored: BatchesConfig
) -> None:
    first = await start_router(Steered, batches=stored)
    batch = await begun(first.openai, lines(5))
    (await first.asked()).proceed()
    store = BatchStore(Path(stored.folder or "") / "batches", 3600, 1, 1)
    output = store.content("default", batch_output(batch.id))
    await eventually(lambda: output.exists() and output.stat().st_size > 0)
    second = await start_router(Engine, batches=stored)
    with store.claimed("default", batch.id) as is_free:
        assert not is_free, "the first one runs it"
    assert first.batches is not None
    await first.batches.drain(0)
    done = await ended(second.openai, batch.id)
    assert done.status == "completed"
    assert len(await answers(second.openai, done.output_file_id)) == 5
    assert len(second.engines[0].received) == 4


def batch_output(batch_id: str) -> str:
    return f"file-{batch_id.removeprefix('batch_')}o"
