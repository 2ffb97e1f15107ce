"""A router that is killed while it runs a batch, beside another that shares its folder."""

import asyncio
import sys
from pathlib import Path

import pytest

from serving.config import BatchesConfig
from serving.router.batches.store import BatchStore
from tests.support.batch_files import answers, begun, ended, lines
from tests.support.engines import Engine
from tests.support.live_router import StartRouter
from tests.support.waiting import eventually

LINES = 200

_RUNS = """
import asyncio, sys
from pathlib import Path
from serving.router.batches.runner import BatchRunner
from serving.router.batches.store import BatchStore
from serving.tenants import DEFAULT

answered = 0

async def relay(scope, receive, send):
    global answered
    await receive()
    while answered == 50:  # the rest never ends
        await asyncio.Event().wait()
    answered += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'{"by": "the killed one"}'})

store = BatchStore(Path(sys.argv[1]), 3600, 10**9, 10**9)
asyncio.run(BatchRunner(store, relay, {DEFAULT.name: DEFAULT}).run())
"""
"""What a router does with batches, without the router."""


async def test_another_router_goes_on_where_the_killed_one_stopped(
    start_router: StartRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "batches"
    # It takes no batch yet: its own runs are all taken.
    monkeypatch.setattr("serving.router.batches.runner._BATCHES_AT_ONCE", 0)
    router = await start_router(Engine, batches=BatchesConfig(folder=str(tmp_path)))
    batch = await begun(router.openai, lines(LINES))
    store = BatchStore(folder, 3600, 10**9, 10**9)
    output = store.content("default", batch_output(batch.id))

    def written() -> int:
        return output.read_bytes().count(b"\n") if output.exists() else 0

    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", _RUNS, str(folder))
    try:
        await eventually(lambda: written() == 50, within_s=30)
        monkeypatch.setattr("serving.router.batches.runner._BATCHES_AT_ONCE", 1)
        with store.claimed("default", batch.id) as is_free:
            assert not is_free
        assert not router.engines[0].received
    finally:
        killed.kill()
        await killed.wait()
    with output.open("ab") as file:
        file.write(b'{"id":"batch_req_half of a li')  # as a kill in the middle of a write leaves
    done = await ended(router.openai, batch.id)
    assert done.status == "completed" and done.request_counts is not None
    assert done.request_counts.completed == LINES
    answered = await answers(router.openai, done.output_file_id)
    assert set(answered) == {f"line-{number}" for number in range(LINES)}
    by_killed = [one for one in answered.values() if "by" in one["response"]["body"]]
    assert len(by_killed) == 50 and len(router.engines[0].received) == LINES - 50


def batch_output(batch_id: str) -> str:
    return f"file-{batch_id.removeprefix('batch_')}o"
