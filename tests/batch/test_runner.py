import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.batch import lines, retry, runner
from serving.batch.requests import InputError
from serving.batch.results import Results
from serving.batch.runner import Runner, ServiceError, check_service, connect
from serving.batch.tally import Tally
from tests.support.scripted_service import (
    BREAK,
    HOLD,
    Reply,
    ScriptedService,
    completion,
    request_line,
)
from tests.support.waiting import eventually

BUSY = Reply(429, headers={"retry-after": "7"})
BUSY_NOW = Reply(429)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.01)


class Run:
    """Runs lines of those custom_ids into `folder`."""

    def __init__(self, service: ScriptedService, folder: Path, ids: list[str]) -> None:
        self.service = service
        self.out = folder / "out.jsonl"
        self.ids = ids
        self.tally = Tally(len(ids))
        self.stopped: str | None = None

    async def __call__(self, concurrency: int = 4, tries: int = 3) -> None:
        requests = (lines.parse_request(request_line(custom_id)) for custom_id in self.ids)
        with Results(self.out, self.ids) as results:
            async with connect(self.service.url, None, concurrency) as client:
                running = Runner(client, results, self.tally, tries=tries)
                await running.run(requests, concurrency)
        self.stopped = running.stopped

    def answers(self) -> dict[str, Any]:
        return read(self.out)

    def failures(self) -> dict[str, Any]:
        return read(self.out.with_name("out.errors.jsonl"))


def read(path: Path) -> dict[str, Any]:
    """The lines of an output file by custom_id, each of which may occur once."""
    if not path.exists():
        return {}
    documents = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_id = {document["custom_id"]: document for document in documents}
    assert len(by_id) == len(documents)
    return by_id


async def test_every_line_is_answered_once(tmp_path: Path) -> None:
    ids = [f"line-{number}" for number in range(100)]
    with ScriptedService() as service:
        run = Run(service, tmp_path, ids)
        await run(concurrency=8)
    assert sorted(service.asked) == sorted(ids)
    answers = run.answers()
    assert set(answers) == set(ids)
    assert answers["line-7"]["response"] == {
        "status_code": 200,
        "request_id": "req-line-7",
        "body": json.loads(completion("line-7")),
    }
    assert (run.tally.answered, run.tally.failed, run.tally.tokens) == (100, 0, 500)
    assert run.stopped is None


async def test_no_more_requests_at_a_time_than_allowed(tmp_path: Path) -> None:
    ids = [str(number) for number in range(10)]
    with ScriptedService({custom_id: [HOLD] for custom_id in ids}) as service:
        run = asyncio.create_task(Run(service, tmp_path, ids)(concurrency=3))
        await eventually(lambda: len(service.asked) == 3)
        service.stop()
        assert len(service.asked) == 3
        service.script = {}
        service.start()
        await run
    assert set(service.asked) == set(ids)


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
async def test_a_refusal_is_that_lines_failure_at_once(tmp_path: Path, status: int) -> None:
    with ScriptedService({"bad": [Reply(status)]}) as service:
        run = Run(service, tmp_path, ["good", "bad"])
        await run()
    assert sorted(service.asked) == ["bad", "good"]
    assert set(run.answers()) == {"good"}
    assert run.failures()["bad"]["response"]["status_code"] == status
    assert run.failures()["bad"]["error"] is None
    assert run.tally.failures == [f"bad: {status}: status {status}"]


async def test_a_refusal_that_is_no_json_becomes_an_error_object(tmp_path: Path) -> None:
    with ScriptedService({"bad": [Reply(413, b"<html>too\nlarge</html>")]}) as service:
        run = Run(service, tmp_path, ["bad"])
        await run()
    body = run.failures()["bad"]["response"]["body"]
    assert body["error"]["message"] == "<html>too large</html>"


@pytest.mark.parametrize("bad", [BREAK, Reply(500), Reply(502), Reply(200, b"<html>"), Reply(408)])
async def test_what_may_pass_is_tried_again(tmp_path: Path, bad: Reply) -> None:
    with ScriptedService({"a": [bad, bad]}) as service:
        run = Run(service, tmp_path, ["a"])
        await run(tries=3)
    assert service.asked == ["a"] * 3
    assert set(run.answers()) == {"a"} and run.failures() == {}
    assert run.tally.waiting == 0


async def test_retry_after_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def pause(_: Runner, seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(Runner, "_pause", pause)
    unavailable = Reply(503, headers={"retry-after": "60"})
    with ScriptedService({"a": [BUSY, unavailable]}) as service:
        run = Run(service, tmp_path, ["a"])
        await run(tries=3)
    first, second = waits
    assert 7 <= first < 9 and 60 <= second <= 75
    assert set(run.answers()) == {"a"}


async def test_a_line_that_runs_out_of_tries_fails_and_the_others_go_on(tmp_path: Path) -> None:
    ids = ["first", "poison", *(str(number) for number in range(20))]
    with ScriptedService({"poison": [Reply(500)] * 100}) as service:
        run = Run(service, tmp_path, ids)
        await run(concurrency=2, tries=5)
    assert service.asked.count("poison") == 5
    assert set(run.answers()) == set(ids) - {"poison"}
    assert run.failures()["poison"]["response"] is None
    assert run.failures()["poison"]["error"] == {
        "code": "tries_exhausted",
        "message": "gave up after 5 tries; the last: 500: status 500",
    }
    assert run.stopped is None


@pytest.mark.parametrize("bad", [Reply(500), Reply(502), Reply(200, b"<html>")])
async def test_a_line_that_fails_alone_does_not_stop_the_run(tmp_path: Path, bad: Reply) -> None:
    with ScriptedService({"poison": [BUSY_NOW, bad, Reply(503)]}) as service:
        run = Run(service, tmp_path, ["poison", "next"])
        await run(concurrency=1, tries=3)
    assert run.stopped is None
    assert set(run.failures()) == {"poison"} and set(run.answers()) == {"next"}


async def test_a_service_that_dies_and_returns_loses_nothing(tmp_path: Path) -> None:
    ids = [str(number) for number in range(50)]
    with ScriptedService({str(number): [HOLD] for number in range(20, 24)}) as service:
        run = Run(service, tmp_path, ids)
        running = asyncio.create_task(run(concurrency=4, tries=10_000))
        await eventually(lambda: {"20", "21", "22", "23"} <= set(service.asked))
        service.stop()
        await eventually(lambda: run.tally.waiting == 4)
        assert "no answer" in run.tally.trouble
        service.start()
        await running
    assert set(run.answers()) == set(ids)
    assert all(
        service.asked.count(custom_id) == 1 for custom_id in run.answers() if int(custom_id) < 20
    )
    assert run.stopped is None


@pytest.mark.parametrize("dead", [True, False])
async def test_a_run_stops_when_nothing_is_answered_any_more(tmp_path: Path, dead: bool) -> None:
    ids = [str(number) for number in range(100)]
    busy = [BUSY_NOW, Reply(503)] * 50
    script = {} if dead else {custom_id: busy for custom_id in ids}
    with ScriptedService(script) as service:
        run = Run(service, tmp_path, ids)
        if dead:
            service.stop()
        await run(concurrency=4, tries=3)
        assert run.stopped is not None
        assert "nothing was answered in 3 tries of a line" in run.stopped
        assert len(service.asked) <= 12
        assert run.answers() == {} and 1 <= len(run.failures()) <= 4


async def test_a_stop_does_not_wait_for_lines_that_wait(tmp_path: Path) -> None:
    patient = Reply(503, headers={"retry-after": "500"})
    with ScriptedService({"a": [patient], "b": [Reply(503)] * 3}) as service:
        run = Run(service, tmp_path, ["a", "b"])
        async with asyncio.timeout(60):
            await run(concurrency=2, tries=3)
    assert run.stopped is not None
    assert set(run.failures()) == {"b"}


async def test_a_refused_key_stops_the_run_and_is_no_lines_failure(tmp_path: Path) -> None:
    ids = [str(number) for number in range(20)]
    with ScriptedService({custom_id: [Reply(401)] for custom_id in ids}) as service:
        run = Run(service, tmp_path, ids)
        await run(concurrency=2, tries=1)
    assert run.stopped is not None and "--api-key-env" in run.stopped
    assert len(service.asked) <= 2
    assert run.answers() == run.failures() == {}


async def test_the_key_goes_with_each_request(tmp_path: Path) -> None:
    with ScriptedService() as service:
        async with connect(service.url, "secret", 1) as client:
            await check_service(client)
    assert service.keys == {"Bearer secret"}


async def test_an_output_that_cannot_be_written_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Results, "append", full)
    with ScriptedService() as service, pytest.raises(OSError, match="No space left"):
        await Run(service, tmp_path, ["a", "b", "c"])()


async def test_answers_that_do_not_reach_the_disk_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(5, "Input/output error")]

    def broken_once(_: Results) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(runner, "_SYNC_EVERY_S", 0)
    monkeypatch.setattr(Results, "sync", broken_once)
    with (
        ScriptedService({"a": [HOLD]}) as service,
        pytest.raises(OSError, match="Input/output error"),
    ):
        async with asyncio.timeout(60):
            await Run(service, tmp_path, ["a"])()


async def test_an_input_that_cannot_be_read_on_ends_the_run(tmp_path: Path) -> None:
    def requests() -> Iterator[lines.Request]:
        yield lines.parse_request(request_line("a"))
        raise InputError("changed")

    with ScriptedService() as service, Results(tmp_path / "out.jsonl", ["a"]) as results:
        async with connect(service.url, None, 2) as client:
            running = Runner(client, results, Tally(2), tries=1)
            with pytest.raises(InputError, match="changed"):
                await running.run(requests(), 2)


async def test_a_service_is_checked_before_the_first_line() -> None:
    async def check(models: Reply, url: Callable[[str], str] = str) -> None:
        with ScriptedService(models=models) as service:
            async with connect(url(service.url), None, 1) as client:
                await check_service(client)

    await check(Reply(body=b'{"data": []}'))
    await check(Reply(503))  # each line waits for the service to start
    with pytest.raises(ServiceError, match="refuses the API key"):
        await check(Reply(401))
    with pytest.raises(ServiceError, match="answers 404: --url must be"):
        await check(Reply(404))
    with pytest.raises(ServiceError, match=r"nothing answers at http://127.0.0.1:1 "):
        await check(Reply(), lambda _: "http://127.0.0.1:1")
    with pytest.raises(ServiceError, match="nothing answers at localhost"):
        await check(Reply(), lambda _: "localhost:8000")
