"""`python -m serving.redis_relay PORT`: a connection to Redis that does not break, for Ray's head.

Ray 2.60 keeps the head's state in Redis, and the head ends when its connection does. It connects
to this relay in its own pod instead, which keeps that connection open while Redis is away, connects
again, logs in as the head did, and sends once more, in their order, the commands that have no
answer yet. The head waits for these answers and does everything else meanwhile.

Redis may have executed a command whose answer was lost, and executes it again. The head uses these,
and neither transactions nor subscriptions:

- HGET, HMGET, HEXISTS, PING and INFO change nothing; HSET leaves what it left before.
- HDEL and HSETNX may say 0 where 1 was lost: the key counts as gone or taken already, which is so.
- INCRBY counts the jobs: a number may be skipped.
- HSCAN's cursors mean nothing to a Redis that has started anew: such a scan begins again.

Redis writes to its disk once a second. If its machine fails, the head knows a second more than
Redis does, until the head itself starts again.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
import time
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections import deque
from dataclasses import dataclass
from urllib.parse import urlsplit

_RETRY_S = 0.5
_CONNECT_TIMEOUT_S = 5
_LOST_MS = 20_000
"""How long Redis' machine may be silent while bytes are under way to it."""
_AWAY = (b"-LOADING", b"-READONLY", b"-MASTERDOWN", b"-MISCONF")
"""Errors of a Redis that will answer, or that another one replaces."""


def _say(text: str) -> None:
    print(f"redis-relay: {text}", flush=True)


async def read_value(reader: StreamReader) -> bytes:
    """Reads a command or an answer, and returns its bytes in Redis' protocol."""
    line = await reader.readuntil(b"\r\n")
    if line[:1] == b"$" and line[1:2] != b"-":
        return line + await reader.readexactly(int(line[1:]) + 2)
    if line[:1] == b"*":
        return line + b"".join([await read_value(reader) for _ in range(int(line[1:]))])
    return line


def _words(value: bytes) -> list[bytes]:
    """The first words of a command, or of HSCAN's answer."""
    return value.split(b"\r\n", 9)[2::2]


@dataclass(frozen=True, slots=True)
class Redis:
    """Where Redis is."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def at(cls, address: str) -> "Redis":
        """Reads an address in one of the forms that Ray takes."""
        url = urlsplit(address if "://" in address else f"redis://{address}")
        if not url.hostname:
            raise ValueError(f"no address of Redis: {address}")
        ca_cert = os.environ.get("RAY_REDIS_CA_CERT")
        tls = ssl.create_default_context(cafile=ca_cert) if url.scheme == "rediss" else None
        return cls(url.hostname, url.port or 6379, tls)

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _LOST_MS // 2_000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _LOST_MS // 4_000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _LOST_MS)
        return reader, writer

    async def wait(self) -> None:
        """Returns when Redis answers, if only that it wants a password."""
        while True:
            with contextlib.suppress(OSError, IncompleteReadError):
                reader, writer = await self.connect()
                with contextlib.closing(writer):
                    writer.write(b"*1\r\n$4\r\nPING\r\n")
                    if not (await read_value(reader)).startswith(_AWAY):
                        return
            await asyncio.sleep(_RETRY_S)


class Relayed:
    """A connection of the head's, and the one to Redis that is behind it at the time."""

    def __init__(self, redis: Redis, client: StreamWriter) -> None:
        self._redis, self._client = redis, client
        self._login = b""
        self._unanswered: deque[bytes] = deque()
        self._writer: StreamWriter | None = None
        """Writes to Redis, unless it is away."""
        self._cursors: set[bytes] = set()
        """The cursors of scans that are of this connection to Redis."""

    async def take_commands(self, reader: StreamReader) -> None:
        """Reads the head's commands until it closes its connection."""
        while True:
            command = await read_value(reader)
            self._unanswered.append(command)
            if self._writer is not None:
                self._send(self._writer, command)

    async def give_answers(self) -> None:
        """Keeps a connection to Redis, and gives the head its answers, until the head is gone."""
        away_since_s: float | None = None
        while not self._client.is_closing():
            with contextlib.ExitStack() as opened:
                try:
                    reader, writer = await self._redis.connect()
                    opened.enter_context(contextlib.closing(writer))
                    await self._resume(reader, writer)
                    if away_since_s is not None:
                        away_s = time.monotonic() - away_since_s
                        again = len(self._unanswered)
                        _say(f"Redis is back after {away_s:.0f} s, {again} commands sent again")
                        away_since_s = None
                    while True:
                        await self._answer(reader)
                except (OSError, IncompleteReadError) as error:
                    self._writer = None
                    if away_since_s is None:
                        away_since_s = time.monotonic()
                        closed = isinstance(error, IncompleteReadError)
                        _say(f"Redis is away: {'it closed the connection' if closed else error}")
            await asyncio.sleep(_RETRY_S)

    async def _resume(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Logs in as the head did, and sends what has no answer."""
        if self._login:
            writer.write(self._login)
            answer = await read_value(reader)
            if answer.startswith(b"-"):
                raise ConnectionError(answer.decode().strip())
        self._cursors.clear()
        for command in self._unanswered:
            self._send(writer, command)
        self._writer = writer

    def _send(self, writer: StreamWriter, command: bytes) -> None:
        words = _words(command)
        if words[0] == b"HSCAN" and words[2] not in self._cursors:
            start = b"\r\n".join([b"$%d" % len(words[2]), words[2]])
            command = command.replace(b"\r\n%s\r\n" % start, b"\r\n$1\r\n0\r\n", 1)
        writer.write(command)

    async def _answer(self, reader: StreamReader) -> None:
        answer = await read_value(reader)
        if answer.startswith(_AWAY):
            raise ConnectionError(answer.decode().strip())
        command = self._unanswered.popleft()
        verb = _words(command)[0]
        if verb == b"AUTH" and answer.startswith(b"+"):
            self._login = command
        elif verb == b"HSCAN":
            self._cursors.add(_words(answer)[0])
        self._client.write(answer)
        await self._client.drain()


async def relay(redis: Redis, port: int) -> None:
    """Serves the head, from when Redis answers: the head itself knows how to wait for it."""

    async def serve(reader: StreamReader, client: StreamWriter) -> None:
        relayed = Relayed(redis, client)
        answers = asyncio.create_task(relayed.give_answers())
        answers.add_done_callback(lambda _: client.close())
        with contextlib.suppress(OSError, IncompleteReadError):
            await relayed.take_commands(reader)
        answers.cancel()

    await redis.wait()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    _say(f"relays to {redis.host}:{redis.port}")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(Redis.at(os.environ["RAY_REDIS_ADDRESS"]), int(sys.argv[1])))
