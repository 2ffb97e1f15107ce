"""The router's HTTP server, which drains without failing requests that are already on their way."""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from serving.router.http.protocol import IDLE_TIMEOUT_S, GuardedProtocol
from serving.router.http.tls import Certificate

_CLOSE = (b"connection", b"close")
_LINGER_S = 2
"""How long a stopping server waits for another request on an open connection: one already in flight
from the client, or one from a client that has not yet seen the connection close."""
_FAREWELL_S = 1.0
"""How long cancelled requests have to tell their clients."""
_LOOK_S = 0.1
_TICKS_PER_S = 10
"""How often uvicorn calls `on_tick`."""
_RENEWAL_TICKS = 30 * _TICKS_PER_S


def server_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
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
        timeout_keep_alive=IDLE_TIMEOUT_S,
    )


def listening_socket(host: str, port: int) -> socket.socket:
    """Returns a bound socket with SO_REUSEPORT: routers on one node share the port, including the
    old and the new router during a rollout."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


def response_of(send: Any) -> Any:
    """Returns uvicorn's response cycle behind the ASGI `send`. Once the head is sent, framed chunks
    can be written to `transport.write` unless it is closing, which saves a coroutine and a message
    for each; `flow.write_paused` is set when the client reads too slowly. `send` waits for the
    client to catch up, and ends the response."""
    return send.__self__


class HttpServer(uvicorn.Server):
    """Serves an ASGI application on bound sockets."""

    def __init__(
        self,
        app: Any,
        *socks: socket.socket,
        certificates: Mapping[socket.socket, Certificate] = {},
    ) -> None:
        """`certificates` are those of the `socks` that speak TLS."""
        super().__init__(server_config(app))
        self._socks = socks
        self._certificates = certificates
        self._accepting: set[asyncio.Task[Any]] = set()

    async def run_until_stopped(self) -> None:
        await self.serve([sock for sock in self._socks if sock not in self._certificates])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        secure = [
            await loop.create_server(
                self._protocol, sock=sock, ssl=certificate.context, backlog=self.config.backlog
            )
            for sock, certificate in self._certificates.items()
        ]
        await super().startup(sockets)
        self.servers += secure

    @property
    def connections(self) -> int:
        return len(self.server_state.connections)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_S == 0:
            now_s = time.monotonic()
            connections: list[Any] = list(self.server_state.connections)
            for connection in connections:
                connection.close_if_overdue(now_s)
        if counter % _RENEWAL_TICKS == 0:
            for certificate in self._certificates.values():
                certificate.renew()
        return await super().on_tick(counter)

    def move_connections(self) -> None:
        """Closes each connection that is open now with its next answer, which says so, so that its
        client opens another one: at any of the routers."""
        leaving = ServerState()
        leaving.connections = self.server_state.connections
        leaving.tasks = self.server_state.tasks
        leaving.default_headers = [*self.server_state.default_headers, _CLOSE]
        connections: set[Any] = {*self.server_state.connections}
        for connection in connections:
            connection.server_state = leaving

    async def stop(self, timeout_s: float, linger_s: float = _LINGER_S) -> None:
        """Stops listening, serves requests on the connections already open, and returns when all
        are closed or the time is up. Then it cancels the tasks of requests, which may still tell
        their clients. uvicorn's own shutdown would reset connections in the accept
        queue and close open ones that have requests in flight."""
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
        if tasks := list(self.server_state.tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_FAREWELL_S)
        self.should_exit = self.force_exit = True

    @staticmethod
    def _is_busy(connection: Any) -> bool:
        return connection.cycle is not None and not connection.cycle.response_complete

    def _stop_listening(self) -> None:
        # The duplicates keep the kernel's accept queues alive after the server closes its own
        # sockets.
        socks = [(sock.dup(), self._certificates.get(sock)) for sock in self._socks]
        for server in self.servers:
            server.close()
        for sock, certificate in socks:
            self._accept_all(sock, None if certificate is None else certificate.context)
            sock.close()

    def _accept_all(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Accepts every connection in the kernel's accept queue."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = sock.accept()
            except BlockingIOError:
                break
            connection.setblocking(False)
            self._accepting.add(
                loop.create_task(loop.connect_accepted_socket(self._protocol, connection, ssl=tls))
            )

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
