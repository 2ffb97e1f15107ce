"""`mistral-serve top`."""

import asyncio
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
from typer.testing import Result

from serving.router.telemetry.status import Quantiles, ServiceStatus
from tests.cli.service import a_model, a_replica, a_service, run
from tests.support.engines import Engine
from tests.support.http_server import Request, answering, response, running
from tests.support.live_router import MODEL, running_router
from tests.support.waiting import eventually

TOP = "-c", "from serving.cli import main; main()", "top"

Top = Callable[[ServiceStatus], Result]


@pytest.fixture
def top(monkeypatch: pytest.MonkeyPatch) -> Top:
    """Runs the command, whose output is no terminal, against a service with those answers."""
    monkeypatch.setenv("COLUMNS", "80")

    return lambda service: run(monkeypatch, "top", msgspec.json.encode(service))


def test_without_a_terminal_it_is_shown_once_in_80_columns(top: Top) -> None:
    model = a_model(a_replica("r1", requests=3, tokens=620), a_replica("r2"))
    model.waiting = 4
    model.replicas[1].ejected = True
    recent = model.recent
    recent.requests, recent.output_tokens, recent.refused, recent.failed = 250, 123_400, 7, 1
    recent.hit_rate, recent.expected_hit_rate = 0.63, 0.61
    recent.ttft, recent.itl = Quantiles(0.12, 1.48), Quantiles(0.0031, 0.04)
    result = top(a_service(small=model))
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    text = [" ".join(line) for line in lines]
    assert text[2] == "small 1 of 2 up"
    assert text[3] == "running 3 queue 4 TTFT 120 ms, p99 1.5 s"
    assert text[4] == "requests/s 2.5 hit rate 63% (61% expected) ITL 3.1 ms, p99 40 ms"
    assert text[5] == "tokens/s 1,234 refused/failed 7 / 1 wait -"
    assert lines[7][0] == "r1" and text[7].endswith("62% 3 620 of 1,000")
    assert lines[8][0] == "r2" and text[8].endswith("0% 0 0 of 1,000 ejected")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_model_without_a_replica_says_when_one_is_expected(top: Top) -> None:
    assert (
        "small  no replica is up; one is expected in 42 s" in top(a_service(small=a_model())).stdout
    )


def test_one_of_several_routers_says_what_is_its_own(top: Top) -> None:
    service = a_service(small=a_model(a_replica("r1")))
    service.routers = 3
    assert "router router-0, one of 3" in top(service).stdout


@asynccontextmanager
async def in_a_terminal(url: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, bytearray]]:
    """Runs the command and yields its output."""
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (30, 100))
    seen = bytearray()

    def read() -> None:
        with suppress(OSError):
            seen.extend(os.read(terminal, 65536))

    asyncio.get_running_loop().add_reader(terminal, read)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(*TOP, "--url", url, "--interval", "0.1"),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env=os.environ | {"TERM": "xterm-256color"},
    )
    try:
        yield process, seen
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(terminal)
        os.close(terminal)
        os.close(its_end)


async def test_in_a_terminal_it_follows_the_service_until_ctrl_c() -> None:
    async with running_router(Engine) as router, in_a_terminal(router.url) as (process, seen):
        await eventually(lambda: b"1 of 1 up" in seen, within_s=60)
        router.directory.update(MODEL, [])
        await eventually(lambda: b"no replica is up" in seen, within_s=30)
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
        assert b"Traceback" not in seen


async def test_a_service_that_is_away_for_a_while_is_told_and_seen_again() -> None:
    replicas: list[str] = ["before"]

    def answer(_: Request) -> bytes | None:
        if not replicas:
            return None
        return response(msgspec.json.encode(a_service(small=a_model(*map(a_replica, replicas)))))

    async with (
        running(answering(answer)) as port,
        in_a_terminal(f"http://127.0.0.1:{port}") as (process, seen),
    ):
        await eventually(lambda: b"before" in seen, within_s=60)
        replicas.clear()
        await eventually(lambda: b"no router answers" in seen, within_s=30)
        replicas.append("afterwards")
        await eventually(lambda: b"afterwards" in seen, within_s=30)
        assert process.returncode is None
