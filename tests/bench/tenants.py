"""What tenants cost a router: CPU time per request for keys, limits, shares, salts and the ledger.

`python -m tests.bench.tenants` has the router's own code relay requests, in this process and
without sockets, first with nothing of these, then with each of them, then with all. The settings
take turns; what is reported of each is the least of many rounds, so that other load hardly shows.
"""

import argparse
import asyncio
import gc
import json
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from serving.config import RouterConfig
from serving.dispatch import RateLimiter, TenantLimits
from serving.engine_protocol import USAGE_ID, EngineUsage
from serving.ledger.tokens import Tokens
from serving.mistral import ModelRules
from serving.router.http.authentication import Authentication
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.relay import Relay
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.telemetry.metrics import Metrics
from serving.tenants import Tenant
from serving.tenants.api_key import ApiKey, new_key
from serving.tenants.authentication_config import AuthenticationConfig
from tests.bench import relay_report
from tests.bench.relay import PATH
from tests.bench.relay_process import MODEL

REQUESTS = 400
"""In a round: about as many as a busy router has between two writes of its ledger."""
SETTINGS: dict[str, frozenset[str]] = {
    "nothing": frozenset(),
    "two tenants with keys: salts and shares": frozenset({"keys"}),
    "and their limits": frozenset({"keys", "limits"}),
    "the ledger": frozenset({"ledger"}),
    "all": frozenset({"keys", "limits", "ledger"}),
}
BODY = json.dumps(
    {"model": MODEL, "messages": [{"role": "user", "content": "x" * 900}], "max_tokens": 16}
).encode()
USAGE = {"prompt_tokens": 300, "completion_tokens": 16, "total_tokens": 316}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
ANSWER = json.dumps({"id": "a", "choices": [CHOICE], "usage": USAGE}).encode()
HEADERS = [
    (b"content-type", b"application/json"),
    (b"x-prompt-tokens", b"300"),
    (b"x-cached-tokens", b"0"),
]


class Connection:
    """An answer that has arrived."""

    def __init__(self, body: bytes) -> None:
        self.status = 200
        self.headers = HEADERS
        self._pieces = [b"", body]

    async def read(self) -> bytes:
        return self._pieces.pop()


class EnginePool:
    """An engine without a network, in place of the connections to one."""

    def __init__(self) -> None:
        self._ended: deque[tuple[int, Tokens]] = deque()
        self._last = 0

    async def request(self, head: bytes, body: bytes) -> Connection:
        if head.startswith(b"GET"):
            usage = EngineUsage({}, dict(self._ended), self._last)
            self._ended.clear()
            return Connection(msgspec.json.encode(usage))
        at = head.find(USAGE_ID)
        if at >= 0:
            number = head[at : head.index(b"\r\n", at)].rpartition(b"/")[2]
            self._ended.append((int(number), Tokens(300, 0, 16, 300, 16)))
            self._last += 1
        return Connection(ANSWER)

    def release(self, connection: Connection) -> None:
        pass


class Client:
    """Takes an answer."""

    response_started = False

    def __init__(self) -> None:
        self.sent = 0
        self._asked = False

    async def receive(self) -> Any:
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": BODY}

    async def send(self, message: Any) -> None:
        self.sent += len(message.get("body", b""))


@dataclass
class Router:
    """A router with some of the parts."""

    parts: frozenset[str]
    folder: Path
    least_us: float = field(default=float("inf"))
    """CPU time per request in the best round."""

    def __post_init__(self) -> None:
        limits = TenantLimits(requests_per_minute=10**9, tokens_per_minute=10**12)
        tenant = Tenant(name="one", limits=limits if "limits" in self.parts else None)
        self._key, config = "EMPTY", RouterConfig()
        if "keys" in self.parts:
            wanted = ApiKey(id="0" * 8, tenant="one", sha256="0" * 64, created=datetime.now(UTC))
            self._key, kept = new_key(wanted, ())
            keys_file = self.folder / "keys.json"
            keys_file.write_bytes(msgspec.json.encode({"keys": [kept]}))
            config = RouterConfig(
                tenants=(tenant, Tenant(name="two")),
                authentication=AuthenticationConfig(keys_file=str(keys_file)),
            )
        rules = ModelRules(MODEL, "v11", context_tokens=131072, image_limit=10)
        directory = Directory([Model(MODEL, rules=rules)], config, HealthCheck("token", 5))
        directory.update(MODEL, [ReplicaInfo("replica-0", "127.0.0.1", 1, max_model_len=131072)])
        (replica,) = directory.models[MODEL].replicas
        replica.pool = EnginePool()  # type: ignore[assignment]
        authentication = Authentication(config)
        metrics = Metrics(directory, authentication)
        self._ledger = None
        if "ledger" in self.parts:
            self._ledger = Ledger(self.folder / "ledger", "router-0", "token", 400, 7, metrics)
        self._relay = Relay(
            directory,
            "token",
            config,
            authentication,
            RateLimiter(),
            metrics,
            lambda line: None,
            ledger=self._ledger,
        )

    async def round(self) -> None:
        gc.collect()
        began_s = time.process_time()
        for _ in range(REQUESTS):
            client = Client()
            await self._relay(self._scope(), client.receive, client.send)
            assert client.sent == len(ANSWER)
        if self._ledger is not None:
            await self._ledger.write()
            assert not self._ledger.in_flight
        self.least_us = min(self.least_us, 1e6 * (time.process_time() - began_s) / REQUESTS)

    def _scope(self) -> Any:
        return {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"host", b"bench"),
                (b"user-agent", b"bench"),
                (b"accept", b"*/*"),
                (b"authorization", b"Bearer " + self._key.encode()),
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(BODY)),
            ],
        }


async def measure(folder: Path, rounds: int) -> dict[str, float]:
    routers = {}
    for number, (name, parts) in enumerate(SETTINGS.items()):
        own = folder / str(number)
        own.mkdir()
        routers[name] = Router(parts, own)
    for _ in range(rounds):
        for router in routers.values():
            await router.round()
    return {name: router.least_us for name, router in routers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(measure(Path(folder), args.rounds))
    for name, fact in relay_report.machine().items():
        console.print(f"{name}: {fact}", highlight=False, markup=False)
    table = Table("CPU time per request, µs", "", "more than nothing")
    for name, least_us in found.items():
        table.add_row(name, f"{least_us:.0f}", f"{least_us - found['nothing']:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
