"""What a router's metrics cost, and how true they are: `python -m tests.bench.metrics`.

- The counting itself, for each chunk and each request, and a scrape with 3 models of 3 replicas
  and 50 tenants.
- Time to first token and inter-token latency as the router says, beside a client's stopwatch:
  streams of random pace from a stand-in engine; engine, router and client each in a process of
  its own, on loopback only.

Reports, asserts nothing.
"""

import argparse
import asyncio
import contextlib
import math
import random
import time
import timeit
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import uvloop
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from serving.config import RouterConfig
from serving.router.http.authentication import Authentication
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.upstream import ConnectionPool
from serving.router.telemetry.latency import Latency, StreamClock
from serving.router.telemetry.metrics import PREFIX, QUANTILES, Metrics
from serving.router.telemetry.request_record import RequestRecord
from serving.tenants import Tenant
from tests.bench.relay import request_of
from tests.bench.relay_process import HOST, Server, announce, relay, running
from tests.bench.relay_report import Case
from tests.support.http_server import serve
from tests.support.stand_in_engine import (
    CHUNKED,
    DONE,
    OK_HEAD,
    StandInEngine,
    chunk,
    stream_events,
)

TOKENS = 64
MEDIAN_TTFT_S, MEDIAN_GAP_S = 0.2, 0.025
_LIMIT_S = 60


class RandomPace(StandInEngine):
    """An engine whose streams have given times to the first token and between tokens."""

    async def stream(self, request: dict[str, Any]) -> None:
        first, token, last = map(chunk, stream_events(self.request_id, request["model"]))
        await asyncio.sleep(random.lognormvariate(math.log(MEDIAN_TTFT_S), 0.6))
        self.transport.write(
            OK_HEAD % b"text/event-stream; charset=utf-8" + CHUNKED + first + token
        )
        for i in range(TOKENS - 1):
            await asyncio.sleep(random.lognormvariate(math.log(MEDIAN_GAP_S), 0.5))
            self.transport.write(token if i < TOKENS - 2 else last)
        self.transport.write(chunk(DONE) + b"0\r\n\r\n")


class Stopwatch:
    """A client's measured times of its stream."""

    def __init__(self) -> None:
        self.first_s: list[float] = []
        self.gaps_s: list[float] = []

    async def stream(self, pool: ConnectionPool) -> None:
        began_s = perf_counter()
        connection = await pool.request(*request_of(Case("", 900, TOKENS, 1, 1)))
        last_s = 0.0
        try:
            while piece := await connection.read():
                now_s = perf_counter()
                if not last_s:
                    self.first_s.append(now_s - began_s)
                elif events := piece.count(b"\n\n") - piece.endswith(DONE):
                    self.gaps_s += [now_s - last_s] + [0.0] * (events - 1)
                last_s = now_s
        finally:
            pool.release(connection)


async def streams(router: Server, seconds: float, concurrency: int) -> tuple[Stopwatch, str]:
    """Returns the clients' times, and the router's metrics afterwards."""
    watch = Stopwatch()
    pool = ConnectionPool(HOST, router.port, _LIMIT_S)
    ends_s = perf_counter() + seconds

    async def client() -> None:
        while perf_counter() < ends_s:
            await watch.stream(pool)

    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())
    connection = await pool.request(b"GET /metrics HTTP/1.1\r\nhost: router\r\n\r\n", b"")
    pieces = []
    while piece := await connection.read():
        pieces.append(piece)
    pool.release(connection)
    pool.close()
    return watch, b"".join(pieces).decode()


def quantiles(scraped: str, name: str) -> list[float]:
    found = {
        sample.labels["quantile"]: sample.value
        for family in text_string_to_metric_families(scraped)
        for sample in family.samples
        if sample.name == f"{PREFIX}_recent_{name}_seconds"
    }
    return [found[str(quantile)] for quantile in QUANTILES]


def exact(seconds: Sequence[float]) -> list[float]:
    ordered = sorted(seconds)
    return [ordered[math.ceil(quantile * len(ordered)) - 1] for quantile in QUANTILES]


def agreement(console: Console, seconds: float, concurrency: int) -> None:
    with contextlib.ExitStack() as processes:
        engine = processes.enter_context(running("tests.bench.metrics", "--engine"))
        router = processes.enter_context(relay("router", engine))
        with console.status(f"streaming for {seconds:g} s"):
            watch, scraped = uvloop.run(streams(router, seconds, concurrency))
    table = Table(title=f"{len(watch.first_s)} streams of {TOKENS} tokens, {concurrency} at once")
    for column in ("ms", "router", "client", "router / client"):
        table.add_column(column, justify="right")
    for title, name, times_s in (
        ("time to first token", "time_to_first_token", watch.first_s),
        ("inter-token latency", "inter_token_latency", watch.gaps_s),
    ):
        pairs = zip(QUANTILES, quantiles(scraped, name), exact(times_s), strict=True)
        for quantile, ours_s, theirs_s in pairs:
            table.add_row(
                f"{title}, p{100 * quantile:g}",
                f"{1000 * ours_s:.2f}",
                f"{1000 * theirs_s:.2f}",
                f"{ours_s / theirs_s:.3f}",
            )
    console.print(table)


def best_us(call: Any, number: int) -> float:
    """The fastest of many runs, as the others were disturbed."""
    return min(timeit.repeat(call, number=number, repeat=30)) / number * 1e6


def costs(console: Console) -> None:
    models = [f"model-{i}" for i in range(3)]
    tenants = [f"tenant-{i}" for i in range(50)]
    config = RouterConfig.model_construct(tenants=[Tenant(name=name) for name in tenants])
    directory = Directory(map(Model, models), config, HealthCheck("token", 5))
    for model in models:
        infos = [ReplicaInfo(f"{model}-{i}", HOST, 1, 8192) for i in range(3)]
        directory.update(model, infos)
    metrics = Metrics(directory, Authentication(config))
    for i in range(10_000):
        metrics.ended(record(models[i % 3], tenants[i % 50]))
        metrics.ended(record(f"made-up-{i}", tenants[i % 50]))
    clock = StreamClock(0.0, Latency(), Latency())
    one = record(models[0], tenants[0])
    series = sum(not line.startswith("#") for line in metrics.exposition().decode().splitlines())
    table = Table(title="3 models of 3 replicas, 50 tenants, 10,000 names of no model")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row(
        "counting a chunk, µs", f"{best_us(lambda: clock.sent(1, time.monotonic()), 10_000):.2f}"
    )
    table.add_row("counting a request, µs", f"{best_us(lambda: metrics.ended(one), 10_000):.2f}")
    table.add_row("a scrape, ms", f"{best_us(metrics.exposition, 3) / 1000:.2f}")
    table.add_row("series", str(series))
    console.print(table)


def record(model: str, tenant: str) -> RequestRecord:
    """The record of an answered request."""
    return RequestRecord(
        datetime.now(UTC),
        "id",
        "/v1/chat/completions",
        "answered",
        200,
        tenant=tenant,
        model=model,
        stream=True,
        queue_ms=random.expovariate(1),
        expected_cached_tokens=1000,
        cached_tokens=1000,
        input_tokens=1200,
        output_tokens=300,
        duration_ms=random.expovariate(0.001),
    )


async def _serve_engine() -> None:
    server = await serve(RandomPace)
    announce(server.sockets[0])
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        uvloop.run(_serve_engine())
        return
    console = Console()
    costs(console)
    agreement(console, args.seconds, args.concurrency)


if __name__ == "__main__":
    main()
