"""Canaries of adapters: their share of the requests, and their ends."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from serving.adapters import declared
from serving.adapters.canary import Canary, Rule
from serving.adapters.files import AdapterError
from serving.adapters.files import digest_of as digest_of_folder
from tests.router.proxy.with_adapters import (
    WithAdapters,
    adapters_of,
    ask,
    declare,
    digest_of,
    router_with,
)
from tests.support.live_router import CHAT, MESSAGES
from tests.support.storyteller import Fault, Storyteller, resets
from tests.support.tiny_adapters import zero_adapter
from tests.support.waiting import eventually


def declare_canary(folder: Path, name: str, **canary: Any) -> str:
    """Gives a declared adapter a canary, whose digest it returns."""
    source = folder.parent / "sources" / f"{name}-canary"
    zero_adapter(source, trained_for=f"{name}-canary")
    before = declared.read(declared.path_of(folder, name))
    tried = Canary(source=str(source), **canary)
    declared.write(folder, before.model_copy(update={"canary": tried}))
    return digest_of_folder(source)


async def test_a_canary_gets_its_share_by_session_and_the_marked_requests(folder: Path) -> None:
    declare(folder, "one")
    canary = declare_canary(folder, "one", weight=0.3)
    async with router_with(folder, WithAdapters) as router:
        stable = digest_of(router, "one")

        async def answered_by(**headers: str) -> str:
            answer = await ask(router, "one", **headers)
            assert answer.headers["x-adapter-version"] == answer.json()["answered_by"]
            return str(answer.json()["answered_by"])

        by_session = {
            session: {await answered_by(**{"x-session-id": session}) for _ in range(3)}
            for session in map(str, range(30))
        }
        assert all(len(versions) == 1 for versions in by_session.values())
        assert set.union(*by_session.values()) == {stable, canary}
        version = "x-adapter-version"
        for marked, digest in (
            ("stable", stable),
            ("canary", canary),
            (stable, stable),
            (canary, canary),
        ):
            assert await answered_by(**{version: marked, "x-session-id": "1"}) == digest
        unknown = await ask(router, "one", **{version: "older"})
        assert unknown.status_code == 400
        assert unknown.json()["error"]["param"] == version
        card = (await router.http.get("/v1/models/one")).json()
        assert card["root"] == stable
        assert card["canary"] == {"root": canary, "weight": 0.3}
        lines = [json.loads(line) for line in router.lines]
        assert {(line["adapter_version"], line["canary"]) for line in lines} == {
            (stable, False),
            (canary, True),
            (None, None),
        }
        metrics = (await router.http.get("/metrics")).text
        assert 'adapter_requests_total{adapter="one"' in metrics
        assert 'version="canary"' in metrics


class FailsForOne(WithAdapters):
    """Fails on the requests for one digest."""

    fails: str

    def respond(self, request: dict[str, Any]) -> None:
        if self.latest.header(b"x-adapter") == self.fails.encode():
            self.transport.write(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n")
        else:
            super().respond(request)


async def test_a_canary_is_promoted_by_its_rule(folder: Path) -> None:
    declare(folder, "one")
    canary = declare_canary(folder, "one", weight=0, rule=Rule(requests=20))
    async with router_with(folder, WithAdapters) as router:
        stable = digest_of(router, "one")
        for _ in range(20):
            await ask(router, "one", **{"x-adapter-version": "canary"})
            await ask(router, "one")
        await eventually(lambda: digest_of(router, "one") == canary)
        assert declared.read(declared.path_of(folder, "one")).canary is None
        assert (await ask(router, "one")).json() == {"answered_by": canary}
        assert canary != stable


async def test_a_canary_that_fails_is_withdrawn_by_its_rule_and_named(folder: Path) -> None:
    declare(folder, "one")
    canary = declare_canary(folder, "one", weight=1, rule=Rule(requests=20))
    FailsForOne.fails = canary
    async with router_with(folder, FailsForOne) as router:
        adapters = adapters_of(router)
        stable = digest_of(router, "one")
        assert (await ask(router, "one")).status_code == 500
        await eventually(lambda: "one" in adapters.refused)
        assert adapters.refused["one"].startswith("its canary is withdrawn: 1 of 1 requests failed")
        assert (await ask(router, "one")).json() == {"answered_by": stable}


async def test_a_rule_that_cannot_change_the_declaration_says_so(folder: Path) -> None:
    declare(folder, "one")
    declare_canary(folder, "one", weight=0, rule=Rule(requests=20))
    async with router_with(folder, WithAdapters) as router:
        adapters = adapters_of(router)
        with patch.object(declared, "write", side_effect=AdapterError("the folder is read-only")):
            for _ in range(20):
                await ask(router, "one", **{"x-adapter-version": "canary"})
            await eventually(lambda: "one" in adapters.refused)
        assert adapters.refused["one"].startswith("its canary should be promoted, as 0 of 20")
        assert "the folder is read-only" in adapters.refused["one"]


async def test_a_bad_canary_leaves_the_stable_version_as_it_is(folder: Path) -> None:
    declare(folder, "one")
    declare_canary(folder, "one", weight=1)
    zero_adapter(folder.parent / "sources" / "one-canary", rank=64)
    async with router_with(folder, WithAdapters) as router:
        adapters = adapters_of(router)
        assert adapters.refused["one"].startswith("the canary: rank above the limit")
        assert (await ask(router, "one")).json() == {"answered_by": digest_of(router, "one")}


class BreaksOff(WithAdapters, Storyteller):
    """Streams a story for an adapter, and breaks off in it."""

    breaks_after = 5
    fault = cast(Fault, staticmethod(resets))  # type: ignore[assignment]
    adapters_asked: list[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.adapters_asked = []

    def respond(self, request: dict[str, Any]) -> None:
        self.adapters_asked.append((self.latest.header(b"x-adapter") or b"").decode())
        self.task = asyncio.get_running_loop().create_task(self.stream(request))


class GoesOn(BreaksOff):
    breaks_after = 1000


async def test_an_answer_goes_on_in_the_version_that_it_began_with(folder: Path) -> None:
    declare(folder, "one")
    canary = declare_canary(folder, "one", weight=1)
    async with router_with(folder, BreaksOff, GoesOn) as router:
        stable = digest_of(router, "one")
        fields = {"model": "one", "messages": MESSAGES, "stream": True}
        for _ in range(4):
            async with router.http.stream("POST", CHAT, json=fields) as answer:
                assert answer.headers["x-adapter-version"] == canary
                withdraw(folder, "one")
                await eventually(lambda: adapters_of(router).by_name["one"].canary is None)
                text = "".join([line async for line in answer.aiter_lines()])
            assert text.endswith("[DONE]")
            declare_canary(folder, "one", weight=1)
            await eventually(lambda: adapters_of(router).by_name["one"].canary is not None)
        asked = [one.adapters_asked for one in router.engines]  # type: ignore[attr-defined]
        assert all(asked) and {digest for of in asked for digest in of} == {canary} != {stable}


def withdraw(folder: Path, name: str) -> None:
    before = declared.read(declared.path_of(folder, name))
    declared.write(folder, before.model_copy(update={"canary": None}))
