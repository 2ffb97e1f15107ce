"""`exec` and `portforward` of pods: WebSockets in the framing of v4.channel.k8s.io."""

import contextlib
import json
import selectors
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

_PROTOCOL = Subprotocol("v4.channel.k8s.io")
_STDOUT, _ERROR = 1, 3

Run = Callable[[str, str, list[str]], str]
"""What a command in a pod's container writes to its standard output."""


class Channel:
    """The server's end of a WebSocket whose request the HTTP server has read already."""

    def __init__(
        self, sock: socket.socket, request_line: bytes, headers: Mapping[str, str]
    ) -> None:
        self._sock = sock
        self._protocol = ServerProtocol(subprotocols=[_PROTOCOL])
        lines = [request_line.rstrip(), *(f"{k}: {v}".encode() for k, v in headers.items())]
        self._protocol.receive_data(b"\r\n".join([*lines, b"", b""]))
        (request,) = self._protocol.events_received()
        assert isinstance(request, Request)
        self._protocol.send_response(self._protocol.accept(request))
        self._flush()

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, channel: int, data: bytes) -> None:
        self._protocol.send_binary(bytes([channel]) + data)
        self._flush()

    def close(self) -> None:
        self._protocol.send_close(1000)
        with contextlib.suppress(OSError):
            self._flush()

    def receive(self) -> Iterator[tuple[int, bytes]] | None:
        """Channel and data of each message that has come; None once the other end is closed."""
        data = self._sock.recv(65536)
        if not data:
            return None
        self._protocol.receive_data(data)
        events: list[Any] = self._protocol.events_received()
        if any(frame.opcode is Opcode.CLOSE for frame in events):
            return None
        return iter([(frame.data[0], bytes(frame.data[1:])) for frame in events if frame.data])

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._sock.sendall(data)


def execute(channel: Channel, output: str) -> None:
    """Sends what a command wrote, and that it ended well."""
    channel.send(_STDOUT, output.encode())
    channel.send(_ERROR, json.dumps({"metadata": {}, "status": "Success"}).encode())
    channel.close()


def forward(channel: Channel, port: int, local_port: int) -> None:
    """Carries bytes between the client and a port of this machine, until either ends."""
    for index in (0, 1):  # data, errors
        channel.send(index, port.to_bytes(2, "little"))
    with (
        socket.create_connection(("127.0.0.1", local_port)) as near,
        selectors.DefaultSelector() as selector,
    ):
        selector.register(near, selectors.EVENT_READ)
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is near:
                    data = near.recv(65536)
                    if not data:
                        channel.close()
                        return
                    channel.send(0, data)
                else:
                    messages = channel.receive()
                    if messages is None:
                        return
                    for _, data in messages:
                        near.sendall(data)
