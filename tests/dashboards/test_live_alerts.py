"""Faults on a live router with a real Prometheus, whose rules take a second for each minute."""

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.cli.monitor import config, prometheus
from serving.placement import Capacity
from tests.dashboards.queries import RULES
from tests.e2e.service import free_port
from tests.router.engines import Endless, Engine
from tests.router.live import IMPATIENT, MODEL, LiveRouter, running_router
from tests.router.storyteller import breaking, resets

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus"
)

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
_HEALTHY_S = 15
_FIRES_WITHIN_S = 60
_SECONDS = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}

LEFT_OUT = {"RouterWithoutReplicas", "EngineStalled"}
"""What may follow where an engine fails all that it is given."""

Fault = Callable[[LiveRouter], Awaitable[object]]


class LateFirstToken(Engine):
    async def stream(self, request: dict[str, Any]) -> None:
        await asyncio.sleep(2.7)
        await super().stream(request)


class SlowTokens(Engine):
    interval_s = 0.15


async def asked(router: LiveRouter) -> None:
    with contextlib.suppress(httpx.RemoteProtocolError):  # a broken stream
        await router.chat(**ASK, stream=True, n=2)
    await asyncio.sleep(0.1)


async def asked_by_many(router: LiveRouter) -> None:
    await asyncio.gather(*(router.chat(**ASK, stream=True) for _ in range(40)))


async def without_replicas(router: LiveRouter) -> None:
    router.directory.update(MODEL, [])
    await asked(router)


async def full(router: LiveRouter) -> None:
    stream = await router.open_stream(**ASK)
    for _ in range(30):
        await asked(router)
    await stream.aclose()


@pytest.mark.parametrize(
    ("engine", "settings", "fault", "alerts", "may_follow"),
    [
        (Engine, IMPATIENT, without_replicas, {"RouterWithoutReplicas", "AvailabilityBurn"}, set()),
        (breaking(3, resets), IMPATIENT, asked, {"StreamsBroken", "AvailabilityBurn"}, LEFT_OUT),
        (
            Endless,
            {"capacity": Capacity(10**6, 1), "max_waiting": 0},
            full,
            {"QueueSaturated"},
            set(),
        ),
        (LateFirstToken, {}, asked_by_many, {"TtftBurn"}, set()),
        (SlowTokens, {}, asked_by_many, {"ItlBurn"}, set()),
    ],
    ids=["no replica", "streams break", "all is full", "late first tokens", "slow tokens"],
)
async def test_a_fault_fires_its_alerts_and_no_other(
    engine: type[Engine],
    settings: dict[str, Any],
    fault: Fault,
    alerts: set[str],
    may_follow: set[str],
    tmp_path: Path,
) -> None:
    async with running_router(engine, hold_off_s=0.05, **settings) as router:
        with monitored(router, tmp_path) as url:
            await scraped(url)
            end_s = time.monotonic() + _FIRES_WITHIN_S
            fires: set[str] = set()
            while not alerts <= fires and time.monotonic() < end_s:
                await fault(router)
                fires = await firing(url)
            assert alerts <= fires <= alerts | may_follow
            router.directory.update(MODEL, [])


async def test_none_fires_on_a_healthy_router(tmp_path: Path) -> None:
    async with running_router(Engine, Engine) as router:
        with monitored(router, tmp_path) as url:
            await scraped(url)
            end_s = time.monotonic() + _HEALTHY_S
            while time.monotonic() < end_s:
                await asked(router)
                assert not await firing(url)


async def firing(url: str) -> set[str]:
    found = await query(url, 'ALERTS{alertstate="firing",service="mistral-serve"}')
    return {labels["alertname"].removeprefix("Mistral") for labels in found}


async def scraped(url: str) -> None:
    """As soon as the router is, and what its absence meant is over."""
    async with asyncio.timeout(_FIRES_WITHIN_S):
        while True:
            if await query(url, 'up{component="router"} == 1') and not await firing(url):
                return
            await asyncio.sleep(0.1)


async def query(url: str, expr: str) -> list[dict[str, str]]:
    """The labels of what is found."""
    async with httpx.AsyncClient() as http:
        response = await http.get(f"{url}/api/v1/query", params={"query": expr}, timeout=30)
    found = response.raise_for_status().json()["data"]["result"]
    return [one["metric"] for one in found]


@contextlib.contextmanager
def monitored(router: LiveRouter, folder: Path) -> Iterator[str]:
    program, port = shutil.which("prometheus"), free_port()
    assert program is not None
    for path in RULES:
        document = yaml.safe_load(path.read_text())
        (folder / path.name).write_text(yaml.safe_dump(hastened(document)))
    settings = config(router.url, folder, None)
    settings["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    with prometheus(program, settings, port):
        yield f"http://127.0.0.1:{port}"


def hastened(rules: dict[str, Any]) -> dict[str, Any]:
    """Rules whose times are sixty times as short."""
    for group in rules["groups"]:
        group["interval"] = shorter(group["interval"])
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"(?<=\[)\w+(?=\])", lambda m: shorter(m[0]), rule["expr"])
            if "for" in rule:
                rule["for"] = shorter(rule["for"])
    return rules


def shorter(duration: str) -> str:
    return f"{int(duration[:-1]) * _SECONDS[duration[-1]] * 1000:.0f}ms"
