"""The router's HTTP server, which stops without failing a request that is on its way to it."""

import asyncio
import socket
import time
from typing import Any

import uvicorn

_CLOSE = (b"connection", b"close")
_LINGER_S = 2
"""How long a stopping server waits for a request on a connection that is open: one that a client
has sent by now, and what a client asks who could not be told that the connection closes."""
_LOOK_S = 0.1


def server_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        lifespan="off",
        ws="none",
        interface="asgi3",
        access_log=False,
        log_config=None,  # see serving/serve_log.py
        proxy_headers=False,
        log_level="critical",
        server_header=False,
        backlog=4096,
        timeout_keep_alive=75,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """Bound so that routers on one node share the port, also the old and new of a rollout."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


def response_of(send: Any) -> Any:
    """What stands behind the ASGI `send` of uvicorn. Once the head was sent `transport.write` takes
    chunks, with their framing, as long as it is not closing, without a coroutine and a message for
    each; `flow.write_paused` tells that the client is too slow for more. `send` waits until it is
    not, and ends the response.
    """
    return send.__self__


class HttpServer(uvicorn.Server):
    """Serves an ASGI application on bound sockets."""

    def __init__(self, app: Any, *socks: socket.socket) -> None:
        super().__init__(server_config(app))
        self._socks = socks
        self._accepting: set[asyncio.Task[Any]] = set()

    async def run_until_stopped(self) -> None:
        await self.serve(sockets=list(self._socks))

    async def stop(self, timeout_s: float, linger_s: float = _LINGER_S) -> None:
        """Takes no more connections, answers what comes on those that are there, and returns when
        all are closed, or after the time. uvicorn's own way would reset the connections that it
        has not yet accepted, and close the open ones under the requests on their way.
        """
        self.config.encoded_headers.append(_CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        self._stop_listening()
        idle_since_s: dict[Any, float] = {}
        end_s = time.monotonic() + timeout_s
        await asyncio.gather(*self._accepting, return_exceptions=True)
        while (connections := self.server_state.connections) and time.monotonic() < end_s:
            for connection in list(connections):
                if self._is_busy(connection):
                    idle_since_s.pop(connection, None)
                elif (
                    time.monotonic() - idle_since_s.setdefault(connection, time.monotonic())
                    >= linger_s
                ):
                    connection.transport.close()
            await asyncio.sleep(_LOOK_S)
        self.should_exit = self.force_exit = True

    @staticmethod
    def _is_busy(connection: Any) -> bool:
        return connection.cycle is not None and not connection.cycle.response_complete

    def _stop_listening(self) -> None:
        # The copies keep the queues of connections alive after the server's own are closed.
        socks = [sock.dup() for sock in self._socks]
        for server in self.servers:
            server.close()
        for sock in socks:
            self._accept_all(sock)
            sock.close()

    def _accept_all(self, sock: socket.socket) -> None:
        """What waits in its queue."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                break
            connection.setblocking(False)
            self._accepting.add(
                loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
            )

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
