"""Exchanges bookings, queue state and the requests that end engines with the other routers.

Each router listens on its own port and publishes to every router that connects: first all
unfinished requests, then events in order. A new router also gets, from one of the others, what the
replicas have cached. Every pair of routers is connected directly, without a broker.
"""

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from serving.dispatch import DEMAND_PERIOD_S, Cached, LimitMessage, Message, RateLimiter
from serving.poison import PoisonMessage
from serving.router.peers.protocol import (
    Batch,
    Hello,
    ProtocolError,
    frame,
    read_batch,
    read_hello,
)
from serving.router.replicas.directory import Directory

log = logging.getLogger(__name__)

_GATHER_S = 0.005
"""How long a message waits to be batched with others."""
_HELLO_TIMEOUT_S = 5
_CONNECT_TIMEOUT_S = 5
_RETRY_S = 1
_MOST_UNSENT_BYTES = 16 * 1024 * 1024
"""Send buffer limit: a router that reads more slowly is disconnected, then reconnects and receives
everything again."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """The address where another router publishes."""

    router_id: str
    host: str
    port: int
    metrics_address: str | None = None
    """The metrics address of this router alone, as routers share the port for clients; None if its
    version does not publish one."""

    @classmethod
    def from_metadata(cls, router_id: str, metadata: Mapping[str, Any]) -> "PeerInfo":
        address = metadata.get("metrics_address")
        return cls(router_id, metadata["host"], metadata["port"], address)


class Peers:
    """Publishes to the other routers and receives from them, for the models of a directory and the
    limits of tenants."""

    def __init__(
        self, directory: Directory, limiter: RateLimiter, token: str, router_id: str
    ) -> None:
        """`token` is the cluster's shared secret, which all routers have."""
        self._directory = directory
        self._limiter = limiter
        self._token = token
        self._router_id = router_id
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._outbox: dict[str, list[Message | PoisonMessage]] = {}
        """Messages to send, by model."""
        self._limits_outbox: list[LimitMessage] = []
        self._sending: asyncio.TimerHandle | None = None
        self._receiving: dict[PeerInfo, asyncio.Task[None]] = {}
        self._snapshots: dict[PeerInfo, asyncio.Event] = {}
        """Whether the unfinished requests of each router are known."""
        self._is_new = True
        """Whether no router was asked yet for what the replicas have cached."""
        self._server: asyncio.Server
        self._publishing: asyncio.Task[None]

    @property
    def subscribers(self) -> int:
        """The number of routers that receive from this one."""
        return len(self._subscribers)

    @property
    def others(self) -> int:
        """The number of other routers that are up."""
        return len(self._receiving)

    async def listen(self, host: str) -> int:
        """Starts publishing to routers that connect. Returns the port."""
        self._server = await asyncio.start_server(self._welcome, host, 0)
        self._publishing = asyncio.create_task(self._publish_demands())
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def update(self, infos: Iterable[PeerInfo]) -> None:
        """Sets the routers that are up; this one may be among them."""
        others = {info for info in infos if info.router_id != self._router_id}
        for info in self._receiving.keys() - others:
            self._receiving.pop(info).cancel()
            self._snapshots.pop(info).set()
        for info in others - self._receiving.keys():
            self._snapshots[info] = asyncio.Event()
            self._receiving[info] = asyncio.create_task(self._receive(info))

    async def learned(self) -> None:
        """Returns once this router knows what the others do. New replicas must be known before the
        others are: what is said of unknown ones is ignored."""
        await asyncio.gather(*(snapshot.wait() for snapshot in self._snapshots.values()))

    def is_first(self) -> bool:
        """Returns whether no other router is up. Then this one has nothing to learn, from those
        that start later either: what it knows of the time before, they know as well."""
        if not self._receiving:
            self._is_new = False
        return not self._receiving

    async def close(self) -> None:
        self._server.close()
        tasks = [self._publishing, *self._receiving.values()]
        for task in tasks:
            task.cancel()
        for writer in self._subscribers:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Publishing

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                hello = await read_hello(reader)
            if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
                raise ProtocolError("wrong token")
            if hello.is_new:
                writer.write(_limits_frame(self._limiter.usage(time.monotonic())))
                await self._send_cached(writer)
            self._send()
            writer.write(_limits_frame(self._limiter.snapshot()))
            for model_id, served in self._directory.models.items():
                writer.write(frame(Batch(model_id, served.snapshot())))
            self._subscribers.add(writer)
            self._switch()
            await reader.read()  # ends when the other router disconnects
        except (ProtocolError, EOFError, OSError) as error:
            log.warning("rejected a connection from a router: %s", error or type(error).__name__)
        finally:
            self._subscribers.discard(writer)
            self._switch()
            writer.transport.abort()

    async def _send_cached(self, writer: asyncio.StreamWriter) -> None:
        for model_id, served in self._directory.models.items():
            for message in served.dispatcher.sync.cached():
                writer.write(frame(Batch(model_id, [message])))
                await writer.drain()

    def _switch(self) -> None:
        """Publishes only while there is a subscriber."""
        for model_id, served in self._directory.models.items():
            served.publish(partial(self._gather, model_id) if self._subscribers else None)
        self._limiter.publish = self._gather_limits if self._subscribers else None

    def _gather(self, model_id: str, message: Message | PoisonMessage) -> None:
        self._outbox.setdefault(model_id, []).append(message)
        self._send_soon()

    def _gather_limits(self, message: LimitMessage) -> None:
        self._limits_outbox.append(message)
        self._send_soon()

    def _send_soon(self) -> None:
        if self._sending is None:
            self._sending = asyncio.get_running_loop().call_later(_GATHER_S, self._send)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        data = b"".join(frame(Batch(*of_model)) for of_model in self._outbox.items())
        self._outbox.clear()
        if self._limits_outbox:
            data += _limits_frame(self._limits_outbox)
            self._limits_outbox.clear()
        if not data:
            return
        for writer in self._subscribers:
            if writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
                writer.transport.abort()
            else:
                writer.write(data)

    async def _publish_demands(self) -> None:
        while True:
            await asyncio.sleep(DEMAND_PERIOD_S)
            for served in self._directory.models.values():
                served.publish_demand()

    # Receiving

    async def _receive(self, info: PeerInfo) -> None:
        """Receives from a router for as long as it is up."""
        while True:
            try:
                await self._receive_once(info)
            except (ProtocolError, EOFError, OSError) as error:
                log.warning("router %s: %s", info.router_id, error or type(error).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _receive_once(self, info: PeerInfo) -> None:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(info.host, info.port)
        is_new, self._is_new = self._is_new, False
        snapshot, missing = self._snapshots[info], {*self._directory.models}
        try:
            writer.write(frame(Hello(self._token, is_new)))
            while True:
                batch = await read_batch(reader)
                if batch.limits:
                    self._limiter.receive(info.router_id, batch.limits, time.monotonic())
                    continue
                with contextlib.suppress(KeyError):  # the model is being rolled out
                    self._directory.models[batch.model_id].receive(info.router_id, batch.messages)
                if missing and not any(isinstance(one, Cached) for one in batch.messages):
                    missing.discard(batch.model_id)
                    if not missing:
                        snapshot.set()
        finally:
            self._is_new |= is_new and bool(missing)
            writer.transport.abort()
            for served in self._directory.models.values():
                served.forget(info.router_id)
            self._limiter.forget(info.router_id)


def _limits_frame(messages: Iterable[LimitMessage]) -> bytes:
    return frame(Batch("", [], list(messages)))
