"""Connections to stand-ins for engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.router.replicas.upstream import Connection, ConnectionPool
from tests.support.engines import E, Steered, fresh
from tests.support.live_router import running_engine

BODY = b'{"model": "m"}'
HEAD = b"POST / HTTP/1.1\r\nhost: engine\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@asynccontextmanager
async def connected(
    behaviour: type[E],
) -> AsyncIterator[tuple[ConnectionPool, type[E]]]:
    """Yields a pool of connections to an engine of that behaviour."""
    engine = fresh(behaviour)
    async with running_engine(engine) as port:
        pool = ConnectionPool("127.0.0.1", port, connect_timeout_s=30)
        yield pool, engine
        pool.close()


async def answer_of(pool: ConnectionPool) -> bytes:
    connection = await pool.request(HEAD, BODY)
    answer = await rest_of(connection)
    pool.release(connection)
    return answer


@asynccontextmanager
async def requested() -> AsyncIterator[tuple[ConnectionPool, Steered, asyncio.Task[Connection]]]:
    """Yields a pool, an engine's connection with a pending request, and the task of that
    request."""
    async with connected(Steered) as (pool, engine):
        request = asyncio.create_task(pool.request(HEAD, BODY))
        yield pool, await engine.asked(), request


async def rest_of(connection: Connection) -> bytes:
    answer = b""
    while piece := await connection.read():
        answer += piece
    return answer
