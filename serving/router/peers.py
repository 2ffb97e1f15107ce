"""The other routers of the application: each tells the others what it books and who waits.

Each router listens on a port of its own and tells whoever connects, first all that is unfinished,
then what happens, in its order. So each has a connection to every other, and needs no one between.
"""

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from serving.router.directory import Directory
from serving.router.peer_protocol import (
    Batch,
    Hello,
    ProtocolError,
    frame,
    read_batch,
    read_hello,
)
from serving.router.served_model import News

log = logging.getLogger(__name__)

_GATHER_S = 0.005
"""How long news wait for others to go with them."""
_DEMAND_PERIOD_S = 0.25
_HELLO_TIMEOUT_S = 5
_CONNECT_TIMEOUT_S = 5
_RETRY_S = 1
_MOST_UNSENT_BYTES = 16 * 1024 * 1024
"""A router that reads so slowly is told no more; it connects again and hears all anew."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Where another router tells."""

    router_id: str
    host: str
    port: int
    metrics_address: str | None = None
    """Where it alone, of those that share a port for clients, is scraped; None: of a version
    without."""

    @classmethod
    def from_metadata(cls, router_id: str, metadata: Mapping[str, Any]) -> "PeerInfo":
        address = metadata.get("metrics_address")
        return cls(router_id, metadata["host"], metadata["port"], address)


class Peers:
    """Tells the other routers and hears them, for the models of a directory."""

    def __init__(self, directory: Directory, token: str, router_id: str) -> None:
        """`token` is the cluster's, which all routers have."""
        self._directory = directory
        self._token = token
        self._router_id = router_id
        self._listeners: set[asyncio.StreamWriter] = set()
        self._untold: dict[str, list[News]] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._heard: dict[PeerInfo, asyncio.Task[None]] = {}
        self._server: asyncio.Server
        self._demands: asyncio.Task[None]

    @property
    def told(self) -> int:
        """How many routers hear this one."""
        return len(self._listeners)

    async def listen(self, host: str) -> int:
        """Begins to tell whoever connects; the port."""
        self._server = await asyncio.start_server(self._welcome, host, 0)
        self._demands = asyncio.create_task(self._tell_demands())
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def update(self, infos: Iterable[PeerInfo]) -> None:
        """These routers are up; this one may be among them."""
        others = {info for info in infos if info.router_id != self._router_id}
        for info in self._heard.keys() - others:
            self._heard.pop(info).cancel()
        for info in others - self._heard.keys():
            self._heard[info] = asyncio.create_task(self._hear(info))

    async def close(self) -> None:
        self._server.close()
        tasks = [self._demands, *self._heard.values()]
        for task in tasks:
            task.cancel()
        for writer in self._listeners:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Telling

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                hello = await read_hello(reader)
            if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
                raise ProtocolError("another token")
            self._tell()
            for model_id, served in self._directory.models.items():
                writer.write(frame(Batch(model_id, [*served.fleet.unfinished()])))
            self._listeners.add(writer)
            self._switch()
            await reader.read()  # which ends when the other router does
        except (ProtocolError, EOFError, OSError) as error:
            log.warning("a router that connected is not told: %s", error or type(error).__name__)
        finally:
            self._listeners.discard(writer)
            self._switch()
            writer.transport.abort()

    def _switch(self) -> None:
        """News are gathered as long as there is someone to tell."""
        for model_id, served in self._directory.models.items():
            if not self._listeners:
                served.on_event = served.admission.news = None
            elif served.on_event is None:
                served.on_event = partial(self._gather, model_id)
                served.admission.news = []

    def _gather(self, model_id: str, news: News) -> None:
        self._untold.setdefault(model_id, []).append(news)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(_GATHER_S, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        data = b"".join(frame(Batch(model_id, news)) for model_id, news in self._untold.items())
        self._untold.clear()
        if not data:
            return
        for writer in self._listeners:
            if writer.transport.get_write_buffer_size() > _MOST_UNSENT_BYTES:
                writer.transport.abort()
            else:
                writer.write(data)

    async def _tell_demands(self) -> None:
        while True:
            await asyncio.sleep(_DEMAND_PERIOD_S)
            for model_id, served in self._directory.models.items():
                demand = served.demand(self._router_id)
                if self._listeners:
                    for news in (*(served.admission.news or ()), demand):
                        self._gather(model_id, news)
                    served.admission.news = []

    # Hearing

    async def _hear(self, info: PeerInfo) -> None:
        """Hears a router as long as it is up."""
        while True:
            try:
                await self._hear_once(info)
            except (ProtocolError, EOFError, OSError) as error:
                log.warning("router %s: %s", info.router_id, error or type(error).__name__)
            await asyncio.sleep(_RETRY_S)

    async def _hear_once(self, info: PeerInfo) -> None:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(info.host, info.port)
        try:
            writer.write(frame(Hello(self._token)))
            while True:
                batch = await read_batch(reader)
                with contextlib.suppress(KeyError):  # of a model that is being rolled out
                    self._directory.models[batch.model_id].hear(info.router_id, batch.news)
        finally:
            writer.transport.abort()
            for served in self._directory.models.values():
                served.forget(info.router_id)
