"""Responses to clients that speak HTTP/1.0, such as proxies by their defaults."""

from typing import Any

_CHUNKED = b"transfer-encoding: chunked\r\n"


class UnchunkedTransport:
    """A transport for uvicorn's response cycle that removes chunked framing, which HTTP/1.0 does
    not have (RFC 9112, 6.1). The connection's close, which uvicorn announces and does to every such
    client, ends the body.

    Each write must be a whole response head, or whole chunks.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._is_chunked: bool | None = None
        self.close, self.is_closing = transport.close, transport.is_closing

    def write(self, data: bytes) -> None:
        if self._is_chunked is None:
            self._is_chunked = _CHUNKED in data
            data = data.replace(_CHUNKED, b"", 1)
        elif self._is_chunked:
            data = unchunked(data)
        if data:
            self._transport.write(data)


def unchunked(chunks: bytes) -> bytes:
    """Returns the bodies of whole chunks."""
    bodies: list[bytes] = []
    at = 0
    while at < len(chunks):
        size_end = chunks.index(b"\r\n", at)
        begin = size_end + 2
        end = begin + int(chunks[at:size_end], 16)
        bodies.append(chunks[begin:end])
        at = end + 2
    return b"".join(bodies)
