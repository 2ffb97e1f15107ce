"""Faults on live routers that a real Prometheus scrapes; its rules run sixty times as fast."""

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.cli.monitor import config, prometheus
from serving.placement import Capacity
from tests.dashboards.queries import RULES
from tests.support.engines import Endless, Engine
from tests.support.live_router import IMPATIENT, MODEL, LiveRouter, running_router
from tests.support.ports import free_port
from tests.support.storyteller import breaking, resets

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs prometheus: apt-get install prometheus"
)

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
_FIRES_WITHIN_S = 60
_SECONDS = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}

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


@dataclass(frozen=True)
class Scenario:
    name: str
    """The value of the label `namespace` that the router's series have."""
    engines: tuple[type[Engine], ...]
    fault: Fault
    alerts: set[str] = field(default_factory=set)
    """Alerts that must fire."""
    may_follow: set[str] = field(default_factory=set)
    """Alerts that may fire as well."""
    settings: dict[str, Any] = field(default_factory=dict)
    min_s: float = 0
    """The time for which the scenario lasts at least."""


SCENARIOS = (
    Scenario(
        "no replica",
        (Engine,),
        without_replicas,
        {"RouterWithoutReplicas", "AvailabilityBurn"},
        settings=IMPATIENT,
    ),
    Scenario(
        "streams break",
        (breaking(3, resets),),
        asked,
        {"StreamsBroken", "AvailabilityBurn"},
        may_follow={"RouterWithoutReplicas", "EngineStalled"},  # the engine fails all requests
        settings=IMPATIENT,
    ),
    Scenario(
        "all is full",
        (Endless,),
        full,
        {"QueueSaturated"},
        settings={"capacity": Capacity(10**6, 1), "max_waiting": 0},
    ),
    Scenario("late first tokens", (LateFirstToken,), asked_by_many, {"TtftBurn"}),
    Scenario("slow tokens", (SlowTokens,), asked_by_many, {"ItlBurn"}),
    Scenario("healthy", (Engine, Engine), asked, min_s=15),
)


@pytest.fixture(scope="module")
def fired(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The alerts that fired in each scenario. All run at the same time, each in a namespace."""
    return asyncio.run(fired_in_all(tmp_path_factory.mktemp("rules")))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_fault_fires_its_alerts_and_no_other(
    fired: dict[str, set[str]], scenario: Scenario
) -> None:
    assert scenario.alerts <= fired[scenario.name] <= scenario.alerts | scenario.may_follow


async def fired_in_all(folder: Path) -> dict[str, set[str]]:
    async with contextlib.AsyncExitStack() as stack:
        routers = {
            scenario.name: await stack.enter_async_context(
                running_router(*scenario.engines, backoff_s=0.05, **scenario.settings)
            )
            for scenario in SCENARIOS
        }
        with monitored(routers, folder) as url:
            await scraped(url)
            found = await asyncio.gather(
                *(fired_in(scenario, routers[scenario.name], url) for scenario in SCENARIOS)
            )
        for router in routers.values():
            router.directory.update(MODEL, [])
        return dict(zip(routers, found, strict=True))


async def fired_in(scenario: Scenario, router: LiveRouter, url: str) -> set[str]:
    begin_s = time.monotonic()
    fires: set[str] = set()
    while True:
        await scenario.fault(router)
        # Some alerts belong to no namespace.
        fires |= await firing(url, f',namespace=~"{scenario.name}|"')
        lasted_s = time.monotonic() - begin_s
        complete = scenario.alerts <= fires and lasted_s >= scenario.min_s
        if complete or lasted_s > _FIRES_WITHIN_S:
            return fires


async def firing(url: str, matchers: str = "") -> set[str]:
    found = await query(url, f'ALERTS{{alertstate="firing",service="mistral-serve"{matchers}}}')
    return {labels["alertname"].removeprefix("Mistral") for labels in found}


async def scraped(url: str) -> None:
    """Waits until each router is scraped and the alert on missing metrics is resolved."""
    async with asyncio.timeout(_FIRES_WITHIN_S):
        while True:
            up = await query(url, 'up{component="router"} == 1')
            if len(up) == len(SCENARIOS) and not await firing(url):
                return
            await asyncio.sleep(0.1)


async def query(url: str, expr: str) -> list[dict[str, str]]:
    """The labels of each series in the result."""
    async with httpx.AsyncClient(verify=False, timeout=60) as http:
        response = await http.get(f"{url}/api/v1/query", params={"query": expr})
    found = response.raise_for_status().json()["data"]["result"]
    return [one["metric"] for one in found]


@contextlib.contextmanager
def monitored(routers: dict[str, LiveRouter], folder: Path) -> Iterator[str]:
    program, port = shutil.which("prometheus"), free_port()
    assert program is not None
    for path in RULES:
        document = yaml.safe_load(path.read_text())
        (folder / path.name).write_text(yaml.safe_dump(hastened(document)))
    settings = config("", folder, None, None)
    settings["global"] |= {"scrape_interval": "500ms", "scrape_timeout": "500ms"}
    settings["scrape_configs"] = [
        {
            **config(router.url, folder, None, None)["scrape_configs"][0],
            "job_name": name,
            "relabel_configs": [{"target_label": "namespace", "replacement": name}],
        }
        for name, router in routers.items()
    ]
    with prometheus(program, settings, port):
        yield f"http://127.0.0.1:{port}"


def hastened(rules: dict[str, Any]) -> dict[str, Any]:
    """Divides all durations in the rules by sixty."""
    for group in rules["groups"]:
        group["interval"] = shorter(group["interval"])
        for rule in group["rules"]:
            rule["expr"] = re.sub(r"(?<=\[)\w+(?=\])", lambda m: shorter(m[0]), rule["expr"])
            if "for" in rule:
                rule["for"] = shorter(rule["for"])
    return rules


def shorter(duration: str) -> str:
    return f"{int(duration[:-1]) * _SECONDS[duration[-1]] * 1000:.0f}ms"
