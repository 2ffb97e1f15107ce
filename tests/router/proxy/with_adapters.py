"""Routers and engines that have adapters."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from serving.adapters import declared
from serving.adapters.config import AdapterConfig
from serving.catalogue import CatalogueEntry
from serving.config import ModelConfig
from serving.router.replicas.declared_adapters import AdapterSettings, DeclaredAdapters
from serving.router.replicas.model import Model
from serving.router.replicas.served_model import ServedModel
from tests.support.engines import Engine
from tests.support.http_server import Request, json_response
from tests.support.live_router import CHAT, MESSAGES, MODEL, RULES, LiveRouter, running_router
from tests.support.tiny_adapters import zero_adapter

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nx-engine-unavailable: no-adapter\r\n"


class WithAdapters(Engine):
    """Loads what it is told to, and answers with the digest of the adapter that is asked for."""

    resident: list[str]
    loads: list[str]
    refuses: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.resident, cls.loads = [], []

    def receive(self, request: Request) -> None:
        if request.target != b"/adapters":
            super().receive(request)
        elif request.body and self.refuses is not None:
            body = json.dumps({"reason": self.refuses}).encode()
            head = b"HTTP/1.1 422 Unprocessable\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)
        else:
            if request.body:
                digest = json.loads(request.body)["digest"]
                self.loads.append(digest)
                self.resident.append(digest)
            self.transport.write(json_response({"resident": self.resident, "load_ms": 100.0}))

    def respond(self, request: dict[str, Any]) -> None:
        digest = (self.latest.header(b"x-adapter") or b"").decode()
        if digest and digest not in self.resident:
            self.transport.write(UNAVAILABLE + b"content-length: 0\r\n\r\n")
        else:
            self.transport.write(json_response({"answered_by": digest}))


def entry(**settings: Any) -> CatalogueEntry:
    model = ModelConfig(model="tiny-mistral-small-3.2", adapters_folder="/unused", **settings)
    return model.entry


@contextlib.asynccontextmanager
async def router_with(
    folder: Path, *engines: type[Engine], max_loras: int = 8, **options: Any
) -> AsyncIterator[LiveRouter]:
    """Runs a router that follows the adapters declared in the folder."""
    settings = AdapterSettings(entry(lora={"max_loras": max_loras}), (), str(folder))
    model = Model(MODEL, (), RULES, adapters=settings)
    async with running_router(*engines, models=[model], **options) as router:
        following = asyncio.create_task(served(router).follow_adapters())
        adapters_of(router).look()
        try:
            yield router
        finally:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


def served(router: LiveRouter) -> ServedModel:
    return router.directory.models[MODEL]


def adapters_of(router: LiveRouter) -> DeclaredAdapters:
    adapters = served(router).adapters
    assert adapters is not None
    return adapters


def declare(folder: Path, name: str, **fields: Any) -> None:
    """Makes an adapter of its own content and declares it."""
    source = folder.parent / "sources" / name
    zero_adapter(source, trained_for=name)
    declared.write(folder, AdapterConfig(name=name, source=str(source), **fields))


async def ask(router: LiveRouter, name: str, **headers: str) -> Any:
    fields = {"model": name, "messages": MESSAGES}
    return await router.http.post(CHAT, json=fields, headers=headers)


def digest_of(router: LiveRouter, name: str) -> str:
    return adapters_of(router).by_name[name].version.digest
