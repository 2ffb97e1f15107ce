"""uvicorn's HTTP protocol, with limits on what a client may send and how slowly.

llhttp, which parses, refuses what proxies and servers read differently: two lengths, folded
headers, bare line feeds and the like. What else a request must not be is refused here.
"""

import math
import time
from enum import Enum, auto
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.router.http import protocol_errors
from serving.router.http.errors import ApiError

MAX_HEAD_BYTES = 64 * 1024
"""Longest head: request line and headers."""
MAX_URL_BYTES = 16 * 1024
MAX_PIPELINED = 16
"""Requests that may wait on a connection for the answer to an earlier one."""

IDLE_TIMEOUT_S = 75
"""How long a connection may stay open between requests, and before the first."""
HEAD_TIMEOUT_S = 20
BODY_TIMEOUT_S = 30
"""Time for a body, and a second more for each `MIN_BODY_BYTES_PER_S` of it."""
MIN_BODY_BYTES_PER_S = 16 * 1024

_VERSIONS = frozenset(("1.0", "1.1"))
_OF_UPGRADE = frozenset((b"upgrade", b"connection", b"http2-settings"))


class _Phase(Enum):
    NEW = auto()
    """No request has begun."""
    HEAD = auto()
    BODY = auto()
    READ = auto()
    """The last request has been read to its end. uvicorn closes the connection when it is idle."""


class GuardedProtocol(HttpToolsProtocol):
    """A client's connection. Whoever owns it calls `close_if_overdue` every second or so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = _Phase.NEW
        self._began_s = time.monotonic()
        self._received_bytes = 0
        self._without_upgrade = b""
        """The head of a request that asks for another protocol, without its asking."""

    def close_if_overdue(self, now_s: float) -> None:
        """Closes the connection if its client is too slow to send a request."""
        if now_s - self._began_s > self._timeout_s() and not self.flow.read_paused:
            self._refuse(protocol_errors.request_timeout())

    def _timeout_s(self) -> float:
        if self._phase is _Phase.READ:
            return math.inf
        if self._phase is _Phase.BODY:
            return BODY_TIMEOUT_S + self._received_bytes / MIN_BODY_BYTES_PER_S
        return HEAD_TIMEOUT_S if self._phase is _Phase.HEAD else IDLE_TIMEOUT_S

    def _begin(self, phase: _Phase) -> None:
        self._phase, self._began_s, self._received_bytes = phase, time.monotonic(), 0

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, ApiError) else protocol_errors.not_http())
        else:
            self._received_bytes += len(data)
            if self._phase is _Phase.HEAD and self._received_bytes > MAX_HEAD_BYTES:
                self._refuse(protocol_errors.head_too_large(MAX_HEAD_BYTES))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin(_Phase.HEAD)

    def on_headers_complete(self) -> None:
        self._check_head()
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
            lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OF_UPGRADE]
            self._without_upgrade = b"\r\n".join([*lines, b"", b""])
            return
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            raise protocol_errors.too_many_pipelined(MAX_PIPELINED)
        self._begin(_Phase.BODY)

    def on_message_complete(self) -> None:
        if not self._without_upgrade:
            super().on_message_complete()
            self._phase = _Phase.READ

    def _check_head(self) -> None:
        """Raises ApiError for a head that this server does not take."""
        version = self.parser.get_http_version()
        size_bytes, hosts = len(self.url), 0
        for name, value in self.headers:
            size_bytes += len(name) + len(value)
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding" and (version != "1.1" or value.lower() != b"chunked"):
                raise protocol_errors.unknown_transfer_encoding()
        if len(self.url) > MAX_URL_BYTES:
            raise protocol_errors.url_too_long(MAX_URL_BYTES)
        if size_bytes > MAX_HEAD_BYTES:
            raise protocol_errors.head_too_large(MAX_HEAD_BYTES)
        if version not in _VERSIONS or hosts > 1 or (hosts == 0 and version == "1.1"):
            raise protocol_errors.not_http()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Reads a request that asks for another protocol as one that does not. llhttp takes what
        follows its head for the other protocol's: the request would have no body, and its body
        could be another request."""
        self.parser = httptools.HttpRequestParser(self)
        head, self._without_upgrade = self._without_upgrade, b""
        self.data_received(head + rest)

    def _refuse(self, error: ApiError) -> None:
        """Closes the connection, with an answer that says why unless another answer is due."""
        cycle = self.cycle
        is_unanswered = self._phase is _Phase.BODY and not (cycle and cycle.response_started)
        if not self.pipeline and (cycle is None or cycle.response_complete or is_unanswered):
            body = error.body(self.url.decode("latin-1") if self.scope else "")
            headers = [*error.headers, *self.server_state.default_headers]
            headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
            head = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[error.status] + head + b"\r\n" + body)
        self.transport.close()
