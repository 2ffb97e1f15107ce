"""HTTP/1.1 keep-alive connections from the router to the engines, one request at a time on each."""

import asyncio
import ssl
from collections.abc import Callable

import httptools

from serving.poison import Reason

_READ_AHEAD_BYTES = 256 * 1024
_EVENT_END = b"\n\n\r\n"
"""The end of an event, and of the chunk that carries it."""


def _size_lines(most_bytes: int) -> dict[int, bytes]:
    """Returns the first line of a chunk by the chunk's size, framing included."""
    lines = [(size, b"%x\r\n" % size) for size in range(1, most_bytes)]
    return {len(line) + size + 2: line for size, line in lines}


_SIZE_LINES = _size_lines(4096)


class UpstreamError(Exception):
    """The connection to the engine failed: refused, reset, or closed before the answer ended."""


class NotTakenError(UpstreamError):
    """The engine has not begun to process the request."""


class EngineDeadError(UpstreamError):
    """The engine reports that it died, perhaps because of this request."""

    def __init__(self, reason: Reason, suspects: int | None) -> None:
        """`suspects` is how many requests were in its last steps; 0 if this one was not, None if it
        does not say."""
        of = f"; this request was one of {suspects} in its last steps" if suspects else ""
        super().__init__(f"the engine died: {reason}{of}")
        self.reason = reason
        self.suspects = suspects


class AbortedError(UpstreamError):
    """The router itself closed the connection."""


class HandedOverError(AbortedError):
    """The replica drains, and another one is to continue the stream."""


class Connection(asyncio.Protocol):
    """One keep-alive connection to an engine.

    `request` sends a request and returns when the head of the answer has arrived; `read` then
    returns the body piece by piece as it comes off the wire, and `b""` at its end. `forward` passes
    the rest of the body to callbacks instead.
    """

    __slots__ = (
        "_between_chunks",
        "_body",
        "_done",
        "_error",
        "_head_done",
        "_keep_alive",
        "_loop",
        "_parser",
        "_paused",
        "_take",
        "_take_chunk",
        "_transport",
        "_waiter",
        "headers",
        "on_body",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._keep_alive = False
        self._parser: httptools.HttpResponseParser
        self._transport: asyncio.Transport
        self._loop: asyncio.AbstractEventLoop
        self._body: list[bytes] = []
        self.on_body = self._body.append  # called by httptools.HttpResponseParser
        self._paused = False
        self._head_done = False
        self._done = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._take_chunk: Callable[[bytes], bool]
        self._between_chunks = False

    @property
    def reusable(self) -> bool:
        """Whether it can take another request: the last answer was read to its end."""
        return self._keep_alive and not self._body

    async def request(self, head: bytes, body: bytes) -> None:
        """Sends `head` (request line and headers, blank line included) and `body`.

        Returns when `status` and `headers` of the answer are known; raises UpstreamError.
        """
        self.status = 0
        self.headers = []
        self._keep_alive = False
        self._head_done = self._done = False
        self._parser = httptools.HttpResponseParser(self)
        if self._error is None:
            self._transport.write(head + body if len(body) < 65536 else head)
            if len(body) >= 65536:
                self._transport.write(body)
        while not self._head_done:
            await self._wait()

    async def read(self) -> bytes:
        """Returns the next bytes of the body, `b""` at its end. Raises UpstreamError if it breaks
        off."""
        while not self._body:
            if self._done:
                return b""
            await self._wait()
        self._resume()
        return self._taken()

    async def forward(
        self, take: Callable[[bytes], bool], take_chunk: Callable[[bytes], bool]
    ) -> bool:
        """Calls `take` with each piece of the body as it comes off the wire, which saves the event
        loop iterations that `read` needs. A chunk that ends with an empty line is first offered to
        `take_chunk` with its framing (see `body_of`), which returns whether it took it. Returns
        True at the end of the body, and False once `take` does: later pieces wait for the next
        call. Raises UpstreamError if the body breaks off, and what `take` raises."""
        self._resume()
        if self._body and not take(self._taken()):
            return self._done
        self._take, self._take_chunk = take, take_chunk
        try:
            while self._take is not None and not self._done:
                await self._wait()
        finally:
            self._take = None
            self._between_chunks = False
        return self._done

    def abort(self, error: AbortedError | None = None) -> None:
        """Closes the connection at once: the engine aborts the request, and whoever awaits its
        answer gets the error."""
        self._fail(error or AbortedError("the request was aborted"))
        self._transport.abort()

    def _taken(self) -> bytes:
        body = b"".join(self._body)
        self._body.clear()
        return body

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        self._keep_alive = False
        self._wake()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._loop = asyncio.get_running_loop()  # Cached, as each call costs a system call.

    def data_received(self, data: bytes) -> None:
        if (
            self._between_chunks
            and data[-4:] == _EVENT_END
            and data.startswith(_SIZE_LINES.get(len(data), ()))
        ):
            take_chunk = self._take_chunk  # A call straight from a slot costs a lookup.
            if take_chunk(data):
                return  # The parser state is unchanged after it.
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError):
            # AttributeError: bytes arrived without a request.
            self._fail(UpstreamError("the engine's answer is not HTTP"))
            self._transport.abort()
            return
        if self._take is None:
            self._between_chunks = False
            if sum(map(len, self._body)) > _READ_AHEAD_BYTES:
                self._pause()
            self._wake()
            return
        if data[-2:] != b"\r\n":
            self._between_chunks = False  # The size line of the next chunk may have begun.
        if self._body:
            try:
                goes_on = self._take(self._taken())
            except Exception as error:
                goes_on = False
                assert self._waiter is not None
                self._waiter.set_exception(error)
            if not goes_on:
                self._take = None
                self._between_chunks = False
                if not self._done:
                    self._pause()
                self._wake()
        if self._done:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(UpstreamError("the engine closed the connection"))

    # httptools.HttpResponseParser

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._head_done = self.status >= 200

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        self._between_chunks = True

    def on_message_complete(self) -> None:
        self._between_chunks = False
        if not self._head_done:
            self.headers = []
            return
        self._done = True
        self._keep_alive = self._parser.should_keep_alive()


def body_of(chunk: bytes) -> bytes:
    """Returns the body of a chunk without its framing."""
    return chunk[chunk.index(b"\n") + 1 : -2]


class ConnectionPool:
    """Connections to one engine address; the most recently used idle one is used first."""

    def __init__(self, host: str, port: int, connect_timeout_s: float, tls: bool = False) -> None:
        self._host = host
        self._port = port
        self._tls = ssl.create_default_context() if tls else None
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[Connection] = []
        self._in_use: set[Connection] = set()
        self._closed = False

    async def request(self, head: bytes, body: bytes) -> Connection:
        """Sends a request on an idle or a new connection, and returns the connection when the head
        of the answer has arrived. The caller gives it back with `release`. Raises UpstreamError;
        NotTakenError if no connection could be made."""
        sent = False
        while self._idle and not sent:
            connection = self._idle.pop()
            if connection.reusable:
                sent = True
                try:
                    return await self._send(connection, head, body)
                except AbortedError:
                    raise
                except UpstreamError:
                    pass  # The engine may just have closed it; a new one will show.
        try:
            connection = await self._connect()
        except NotTakenError as error:
            if sent:  # The request may have killed the engine.
                raise UpstreamError(str(error)) from error
            raise
        return await self._send(connection, head, body)

    def release(self, connection: Connection) -> None:
        """Takes a connection back: kept if its answer was read to the end, else closed."""
        self._in_use.discard(connection)
        if connection.reusable and not self._closed:
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Closes idle connections now, and those in use when they are released."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def abort(self, reason: str) -> None:
        """Aborts all requests in flight with AbortedError."""
        for connection in list(self._in_use):
            connection.abort(AbortedError(reason))

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    Connection, self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise NotTakenError(
                f"no connection to the engine: {str(error) or 'timed out'}"
            ) from error
        return connection

    async def _send(self, connection: Connection, head: bytes, body: bytes) -> Connection:
        self._in_use.add(connection)
        try:
            await connection.request(head, body)
        except BaseException:
            self._in_use.discard(connection)
            connection.abort()
            raise
        return connection


async def ask(pool: ConnectionPool, head: bytes, body: bytes) -> tuple[int, bytes]:
    """Returns the status and the whole body of an answer. Raises UpstreamError."""
    connection = await pool.request(head, body)
    try:
        return connection.status, await read_all(connection)
    finally:
        pool.release(connection)


async def read_all(connection: Connection) -> bytes:
    pieces = []
    while piece := await connection.read():
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
