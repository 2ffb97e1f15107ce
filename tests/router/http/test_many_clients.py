"""A router in a process of its own, under more clients than one should have."""

import asyncio
import contextlib
import resource
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import psutil
import pytest

from serving.router.http.server import HttpServer, listening_socket
from tests.support.engines import Engine
from tests.support.live_router import CHAT, MODEL, running_router

MIB = 1024 * 1024
BUDGET_MIB = 64
PART_BYTES = 100_000
HEAD = b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), 64 * MIB)

pytestmark = pytest.mark.full


async def main() -> None:
    async with running_router(Engine, max_body_bytes=64 * MIB, max_bodies_mib=BUDGET_MIB) as router:
        sock = listening_socket("127.0.0.1", 0)
        print(sock.getsockname()[1], flush=True)
        await HttpServer(router.app, sock).run_until_stopped()


@dataclass
class Router:
    port: int
    process: psutil.Process

    @property
    def memory_mib(self) -> float:
        return float(self.process.memory_info().rss) / MIB

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=4096)

    async def answers(self) -> int:
        async with httpx.AsyncClient(timeout=60) as http:
            url = f"http://127.0.0.1:{self.port}{CHAT}"
            return (await http.post(url, json={"model": MODEL})).status_code


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 11_000:
        pytest.skip("needs a limit of 11,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    try:
        one = Router(port, psutil.Process(process.pid))
        assert await one.answers() == 200
        yield one
    finally:
        process.kill()
        await process.wait()


async def test_ten_thousand_idle_connections_take_little_memory(router: Router) -> None:
    before_mib = router.memory_mib
    writers = [(await router.connect())[1] for _ in range(10_000)]
    assert await router.answers() == 200
    grown_mib = router.memory_mib - before_mib
    print(f"10,000 idle connections: {grown_mib:.0f} MiB")
    assert grown_mib < 160
    for writer in writers:
        writer.transport.abort()


async def test_a_thousand_slow_bodies_are_refused_or_cut_off(router: Router) -> None:
    """First a byte at a time, then as much as would be more than the budget together."""
    before_mib = router.memory_mib
    clients = [await router.connect() for _ in range(1000)]
    for _, writer in clients:
        writer.write(HEAD)
    for _ in range(20):
        for _, writer in clients:
            writer.write(b"x")
        await asyncio.gather(*(writer.drain() for _, writer in clients))
    assert await router.answers() == 200
    assert router.memory_mib - before_mib < 40
    for _, writer in clients:
        writer.write(b"x" * PART_BYTES)
    statuses = await asyncio.gather(*(first_line(reader) for reader, _ in clients))
    grown_mib = router.memory_mib - before_mib
    print(f"1,000 bodies: {grown_mib:.0f} MiB; {dict.fromkeys(statuses)}")
    refused = statuses.count(b"HTTP/1.1 503 Service Unavailable\r\n")
    cut_off = statuses.count(b"HTTP/1.1 408 Request Timeout\r\n")
    assert refused >= 1000 - BUDGET_MIB * MIB // PART_BYTES
    assert refused + cut_off + statuses.count(b"") == 1000
    assert grown_mib < 4 * BUDGET_MIB  # with what the allocator keeps; unbounded it is 62 GiB
    assert await router.answers() == 200


async def first_line(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await reader.readline()
    return b""


if __name__ == "__main__":
    asyncio.run(main())
