"""The relay between Ray's head and Redis, with Debian's redis-server behind it."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serving.redis_relay import Redis, read_value, relay
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, needs_redis, running_redis
from tests.support.waiting import eventually


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def serving(redis: RedisServer, port: int) -> AsyncIterator[None]:
    running = asyncio.create_task(relay(Redis.at(redis.url), port))
    yield
    running.cancel()


class Head:
    """The connection of a head, which is never opened again."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> "Head":
        for _ in range(1000):
            try:
                head = cls(*await asyncio.open_connection("127.0.0.1", port))
            except OSError:
                await asyncio.sleep(0.01)
            else:
                assert await head.ask("AUTH", RedisServer.password) == b"+OK\r\n"
                return head
        raise TimeoutError

    def send(self, *words: str) -> None:
        parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        self._writer.write(f"*{len(words)}\r\n{parts}".encode())

    async def answer(self) -> bytes:
        return await asyncio.wait_for(read_value(self._reader), 30)

    async def ask(self, *words: str) -> bytes:
        self.send(*words)
        return await self.answer()


@needs_redis
async def test_what_is_asked_while_redis_is_away_is_answered_in_order_when_it_is_back(
    redis: RedisServer, port: int, serving: None
) -> None:
    head = await Head.connect(port)
    assert await head.ask("HSET", "state", "kept", "1") == b":1\r\n"
    redis.stop()
    head.send("HSET", "state", "kept", "2")
    head.send("HGET", "state", "kept")
    head.send("HSET", "state", "kept", "3")
    await asyncio.to_thread(redis.start)
    assert [await head.answer() for _ in range(3)] == [b":0\r\n", b"$1\r\n2\r\n", b":0\r\n"]
    assert await head.ask("HGET", "state", "kept") == b"$1\r\n3\r\n"


@needs_redis
async def test_a_command_whose_answer_was_lost_is_sent_again(
    redis: RedisServer, port: int, serving: None
) -> None:
    head = await Head.connect(port)
    with redis.client() as client:
        client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")
        head.send("HSET", "state", "key", "value")
        await eventually(lambda: any(each["cmd"] == "hset" for each in client.client_list()), 10)
        redis.stop()
    await asyncio.to_thread(redis.start)
    assert await head.answer() == b":1\r\n"


@needs_redis
async def test_a_scan_that_redis_does_not_know_any_more_begins_anew(
    redis: RedisServer, port: int, serving: None
) -> None:
    head = await Head.connect(port)
    fields = {f"field-{n}" for n in range(2000)}
    await head.ask("HSET", "state", *(word for field in fields for word in (field, "value")))

    async def scan(cursor: bytes) -> tuple[bytes, set[str]]:
        words = (await head.ask("HSCAN", "state", cursor.decode(), "COUNT", "100")).split(b"\r\n")
        return words[2], {word.decode() for word in words if word.startswith(b"field-")}

    cursor, found = await scan(b"0")
    assert cursor != b"0"
    redis.stop()
    await asyncio.to_thread(redis.start)
    while cursor != b"0":
        cursor, more = await scan(cursor)
        found |= more
    assert found == fields


@needs_redis
async def test_a_head_that_starts_finds_no_relay_before_redis_answers(
    redis: RedisServer, port: int
) -> None:
    redis.stop()
    running = asyncio.create_task(relay(Redis.at(redis.url), port))
    try:
        await asyncio.sleep(0.2)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await asyncio.to_thread(redis.start)
        head = await Head.connect(port)
        assert await head.ask("PING") == b"+PONG\r\n"
    finally:
        running.cancel()


async def test_a_redis_that_loads_or_was_demoted_or_whose_disk_is_full_is_away(port: int) -> None:
    """A Redis of the test's says for a while what a real one says only in such a moment."""
    said = [b"+PONG\r\n", b"+OK\r\n", b"-LOADING Redis is loading the dataset in memory\r\n"]
    said += [b"+OK\r\n", b"-READONLY You can't write against a read only replica.\r\n"]
    said += [b"+OK\r\n", b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"]
    said += [b"+OK\r\n", b":1\r\n"]

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        while not reader.at_eof():
            try:
                await read_value(reader)
            except asyncio.IncompleteReadError:
                break
            writer.write(said.pop(0))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    running = asyncio.create_task(relay(Redis.at(address), port))
    try:
        head = await Head.connect(port)
        assert await head.ask("HSET", "state", "key", "value") == b":1\r\n"
        assert not said
    finally:
        running.cancel()
        server.close()


@needs_redis
async def test_a_password_that_redis_refuses_is_refused_to_the_head(
    redis: RedisServer, port: int, serving: None
) -> None:
    await Head.connect(port)
    head = Head(*await asyncio.open_connection("127.0.0.1", port))
    assert (await head.ask("AUTH", "wrong")).startswith(b"-WRONGPASS")
    assert (await head.ask("HGET", "state", "key")).startswith(b"-NOAUTH")


def test_the_addresses_that_ray_takes_are_read() -> None:
    assert Redis.at("redis.example.com") == Redis("redis.example.com", 6379)
    assert Redis.at("redis.example.com:7000") == Redis("redis.example.com", 7000)
    secure = Redis.at("rediss://redis.example.com:6380")
    assert (secure.port, secure.tls is not None) == (6380, True)
    with pytest.raises(ValueError, match="no address of Redis"):
        Redis.at("")
