"""What the rules say of faults on live routers: promtool gets a sample of a router's metrics for
each round of a fault, and takes a round for a minute."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.placement import Capacity
from tests.dashboards import promtool
from tests.support.engines import Endless, Engine
from tests.support.live_router import IMPATIENT, MODEL, LiveRouter, running_router
from tests.support.storyteller import breaking, resets

pytestmark = promtool.NEEDED

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}

Fault = Callable[[LiveRouter], Awaitable[object]]
Sample = dict[str, float]
"""The values of the series at one time."""


class LateFirstToken(Engine):
    async def stream(self, request: dict[str, Any]) -> None:
        await asyncio.sleep(2.7)
        await super().stream(request)


class SlowTokens(Engine):
    interval_s = 0.15


async def asked(router: LiveRouter, requests: int = 5) -> None:
    async def ask() -> None:
        with contextlib.suppress(httpx.RemoteProtocolError):  # a broken stream
            await router.chat(**ASK, stream=True, n=2)

    await asyncio.gather(*(ask() for _ in range(requests)))


async def without_replicas(router: LiveRouter) -> None:
    router.directory.update(MODEL, [])
    await asked(router)


async def full(router: LiveRouter) -> None:
    stream = await router.open_stream(**ASK)
    await asked(router)
    await stream.aclose()


@dataclass(frozen=True)
class Scenario:
    name: str
    engines: tuple[type[Engine], ...]
    fault: Fault
    alerts: set[str] = field(default_factory=set)
    """Alerts that must fire, each with its severity."""
    may_follow: set[str] = field(default_factory=set)
    """The names of alerts that may fire as well."""
    settings: dict[str, Any] = field(default_factory=dict)
    rounds: int = 6


SCENARIOS = (
    Scenario(
        "no replica",
        (Engine,),
        without_replicas,
        {"MistralRouterWithoutReplicas critical", "MistralAvailabilityBurn critical"},
        settings=IMPATIENT,
    ),
    Scenario(
        "streams break",
        (breaking(3, resets),),
        asked,
        {"MistralStreamsBroken warning", "MistralAvailabilityBurn critical"},
        # The engine fails all requests.
        may_follow={"MistralRouterWithoutReplicas", "MistralEngineStalled"},
        settings=IMPATIENT,
    ),
    Scenario(
        "all is full",
        (Endless,),
        full,
        {"MistralQueueSaturated critical", "MistralQueueSaturated warning"},
        settings={"capacity": Capacity(10**6, 1), "max_waiting": 0},
        rounds=14,
    ),
    Scenario(
        "late first tokens",
        (LateFirstToken,),
        partial(asked, requests=20),
        {"MistralTtftBurn critical"},
    ),
    Scenario(
        "slow tokens", (SlowTokens,), partial(asked, requests=20), {"MistralItlBurn critical"}
    ),
    Scenario("healthy", (Engine, Engine), asked, rounds=30),
)


@pytest.fixture(scope="module")
def samples() -> dict[str, list[Sample]]:
    """The samples of each scenario. All run at the same time."""

    async def of_all() -> list[list[Sample]]:
        return await asyncio.gather(*map(sampled, SCENARIOS))

    found = asyncio.run(of_all())
    return {scenario.name: its for scenario, its in zip(SCENARIOS, found, strict=True)}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_fault_fires_its_alerts_and_no_other(
    samples: dict[str, list[Sample]], scenario: Scenario, tmp_path: Path
) -> None:
    its = samples[scenario.name]
    series = {
        name: " ".join(str(sample.get(name, "_")) for sample in its) for name in set().union(*its)
    }
    said = promtool.firing(
        series, f"{len(its) - 1}m", "1m", tmp_path, scenario.alerts, may=scenario.may_follow
    )
    assert not said, said


async def sampled(scenario: Scenario) -> list[Sample]:
    """A sample before the first round, and one after each."""
    async with running_router(*scenario.engines, backoff_s=0.05, **scenario.settings) as router:
        found = [await sample_of(router)]
        for _ in range(scenario.rounds):
            await scenario.fault(router)
            found.append(await sample_of(router))
        router.directory.update(MODEL, [])
    return found


async def sample_of(router: LiveRouter) -> Sample:
    """The router's metrics, with the labels that a scrape adds."""
    exposition = (await router.http.get("/metrics")).raise_for_status().text
    target = {"namespace": "mistral-serve", "component": "router", "router": "r"}
    return {labelled("up", target): 1.0} | {
        labelled(sample.name, sample.labels | target): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def labelled(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"
