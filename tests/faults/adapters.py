"""Asks for many adapters of two engines by Zipf's law, while adapters come, change and go, engines
are killed and routers replaced. Prints what became of the requests, as JSON.

Run by test_adapters.py, in a process of its own so that its Ray stays apart.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, get_args

import httpx
import psutil

from serving.adapters import declared
from serving.adapters.adapter import checked
from serving.adapters.base import base_of
from serving.adapters.config import AdapterConfig
from serving.adapters.fit import Base
from serving.catalogue.lora import adapter_bytes
from serving.catalogue.memory import GIB
from serving.config import ModelConfig
from serving.dispatch import Reason
from tests.faults.deployed import MODEL, DeployedApp, running
from tests.faults.events import until
from tests.faults.load import HOST, Answer, Connection, Question
from tests.faults.stand_in_answer import word
from tests.faults.stand_in_vllm import REFUSED, WAITED
from tests.support.tiny_adapters import full_zero_adapter, zero_adapter
from tests.support.waiting import eventually

_MAX_LORAS, _RANK = 8, 8
_RESIDENT = 24
"""Adapters that an engine has room for beside those that run."""
_COME_AND_GO = 10
_CHANGE = 5
_CLIENTS = 40
_TOKENS = 4
_LONG_TOKENS = 40
_VISIBLE_TIMEOUT_S = 20
_BEGIN_TIMEOUT_S = 120
_HALF_TIMEOUT_S = 3600
_PAUSE_S = 1.0
"""Time between two kills, and between two changes of adapters."""
_SAY_EVERY_S = 10
_AGAIN_S = 1.0


class Adapters:
    """The declared adapters, what each may answer now, and how long changes took to be seen."""

    def __init__(self, folder: Path, base: Base, count: int) -> None:
        self.folder = folder / "declared"
        self.folder.mkdir()
        self.names = [f"adapter-{n}" for n in range(count)]
        self.may_answer: dict[str, set[str]] = {}
        """What adapters that may be asked for were trained for."""
        self.digests: dict[str, str] = {}
        self.seen_s: list[float] = []
        self._sources = folder / "sources"
        self._base = base
        self._versions = itertools.count()

    def declare(self, name: str) -> str:
        """Declares a new version, and returns what it was trained for."""
        trained_for = f"{name} {next(self._versions)}"
        source = self._sources / trained_for.replace(" ", "-")
        full_zero_adapter(source, self._base.network, _RANK, trained_for=trained_for)
        config = AdapterConfig(name=name, source=str(source))
        self.digests[name] = checked(config, self._base).digest
        declared.write(self.folder, config)
        return trained_for

    def remove(self, name: str) -> None:
        declared.path_of(self.folder, name).unlink()
        del self.digests[name]

    def declare_bad_ones(self) -> None:
        """Declares one that does not fit, and one that engines do not take."""
        zero_adapter(self._sources / "bad", rank=64)
        full_zero_adapter(self._sources / REFUSED, self._base.network, _RANK, trained_for=REFUSED)
        for name in ("bad", REFUSED):
            source = str(self._sources / name)
            declared.write(self.folder, AdapterConfig(name=name, source=source))


class Requests:
    """Clients that ask for adapters until so many requests were sent."""

    def __init__(self, app: DeployedApp, adapters: Adapters, count: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.refused = 0
        """Those that admission has refused: on a slow machine engines come back late."""
        self.waited_for_slot = 0
        self.sent = 0
        self._count = count
        self._app = app
        self._adapters = adapters
        self._dice = random.Random(1)
        names = list(adapters.names)
        self._dice.shuffle(names)
        self._names = names
        self._totals = list(itertools.accumulate(1 / (n + 1) for n in range(len(names))))
        self._unbegun: Counter[str] = Counter()

    @property
    def share(self) -> float:
        return self.sent / self._count

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(_CLIENTS)))

    async def say(self) -> None:
        """Says how far they are until cancelled."""
        while True:
            await asyncio.sleep(_SAY_EVERY_S)
            said = f"{dict(self.outcomes)}, {self.refused} refused {self.wrong[-1:]}"
            print(said, file=sys.stderr, flush=True)

    def all_begun(self, name: str) -> bool:
        """Whether the answers to all requests for an adapter that were sent have begun."""
        return not self._unbegun[name]

    async def _client(self) -> None:
        connection: Connection | None = None
        while self.sent < self._count:
            (name,) = self._dice.choices(self._names, cum_weights=self._totals)
            if name not in self._adapters.may_answer:
                continue
            self.sent += 1
            tokens = _LONG_TOKENS if self.sent % 50 == 0 else self.sent % _TOKENS + 1
            question = Question(f"Question {self.sent}", tokens, stream=self.sent % 3 > 0)
            connection, is_refused = await self.ask(name, question, connection)
            if is_refused:
                self.sent -= 1  # another one is sent in its place
                await asyncio.sleep(_AGAIN_S)

    async def ask(
        self, name: str, question: Question, connection: Connection | None
    ) -> tuple[Connection | None, bool]:
        """Asks for an adapter. Returns the connection, and whether the request was refused."""
        may_answer = set(self._adapters.may_answer[name])
        answer = Answer(question)
        self._unbegun[name] += 1
        begun = Begun(lambda: self._unbegun.subtract([name]))
        answer.headers = begun
        try:
            if connection is None or not connection.reusable:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(Connection, HOST, self._app.port)
            await connection.ask(answer, question.body(name))
        except OSError as error:
            answer.error = type(error).__name__
        begun.ends()
        may_answer |= self._adapters.may_answer.get(name, set())
        return connection, self._judge(name, answer, may_answer)

    def _judge(self, name: str, answer: Answer, may_answer: set[str]) -> bool:
        """Counts an answer. Returns whether it is a refusal."""
        self.waited_for_slot += WAITED in answer.headers
        whole = answer.whole and answer.ends == 1 and not answer.error
        if not whole or answer.status != 200:
            outcome = answer.error or str(answer.status)
        elif answer.text in {answer_of(one, answer.question) for one in may_answer}:
            outcome = "right"
        else:
            outcome = "wrong"
        if outcome != "right" and ("x-refused" in answer.headers or is_refusal(answer)):
            self.refused += 1
            return True
        self.outcomes[outcome] += 1
        if outcome != "right":
            said = answer.text or answer.refusal, sorted(may_answer), dict(answer.headers)
            self.wrong.append(f"{name}: {outcome}: {said}"[:500])
        return False


def is_refusal(answer: Answer) -> bool:
    """Whether a stream that waited ends with the error of a request that is refused."""
    with contextlib.suppress(ValueError, LookupError):
        return json.loads(answer.refusal)["error"]["code"] in get_args(Reason)
    return False


class Begun(dict[str, str]):
    """The headers of an answer, whose first one says that it has begun."""

    def __init__(self, on_begin: Any) -> None:
        super().__init__()
        self._on_begin = on_begin

    def __setitem__(self, name: str, value: str) -> None:
        self.ends()
        super().__setitem__(name, value)

    def ends(self) -> None:
        on_begin, self._on_begin = self._on_begin, None
        if on_begin is not None:
            on_begin()


def answer_of(trained_for: str, question: Question) -> str:
    prompt = trained_for + json.dumps(question.prompt)
    return "".join(word(prompt, n) for n in range(question.max_tokens))


async def roots(http: httpx.AsyncClient, app: DeployedApp) -> list[dict[str, str]]:
    """Returns the digests of the adapters by name, as each router lists them."""
    targets = (await http.get(f"http://{HOST}:{app.port}/-/targets")).json()
    addresses = [
        address
        for target in targets
        if target["labels"]["component"] == "router"
        for address in target["targets"]
    ]
    listed = []
    for address in addresses:
        try:
            models = (await http.get(f"http://{address}/v1/models")).json()["data"]
        except httpx.TransportError:
            continue  # It has ended, which the one that was asked does not know yet.
        listed.append({model["id"]: model["root"] for model in models if model["parent"]})
    return listed


async def change(http: httpx.AsyncClient, app: DeployedApp, adapters: Adapters) -> None:
    """Returns when all routers list the adapters as they are declared, and notes the time."""
    began_s = time.monotonic()
    while not all(
        {name: root for name, root in one.items() if name != REFUSED} == adapters.digests
        for one in await roots(http, app)
    ):
        if time.monotonic() > began_s + _VISIBLE_TIMEOUT_S:
            raise TimeoutError("a change of the adapters is not seen")
        await asyncio.sleep(0.02)
    adapters.seen_s.append(time.monotonic() - began_s)


async def come_and_go(
    http: httpx.AsyncClient, app: DeployedApp, adapters: Adapters, requests: Requests
) -> None:
    """Adds, changes and removes adapters until cancelled."""
    for name in itertools.cycle(adapters.names[-_COME_AND_GO:]):
        if name in adapters.may_answer:
            del adapters.may_answer[name]
            await eventually(partial(requests.all_begun, name), _BEGIN_TIMEOUT_S)
            adapters.remove(name)
            await change(http, app, adapters)
        else:
            trained_for = adapters.declare(name)
            await change(http, app, adapters)
            adapters.may_answer[name] = {trained_for}
        changed = random.choice(adapters.names[:_CHANGE])
        trained_for = adapters.declare(changed)
        adapters.may_answer[changed].add(trained_for)
        await change(http, app, adapters)
        adapters.may_answer[changed] = {trained_for}
        await asyncio.sleep(_PAUSE_S)


async def kill_engines(app: DeployedApp, kills: Counter[str]) -> None:
    """Kills an engine after the other until cancelled, by turns its core and its replica."""
    for number in itertools.count():
        replicas = sorted(await asyncio.to_thread(app.replicas))
        victim = replicas[number // 2 % len(replicas)]
        what = "core" if number % 2 else "replica"
        process_of = app.core_process if what == "core" else app.replica_process
        process: psutil.Process = await asyncio.to_thread(process_of, victim)
        process.kill()
        kills[what] += 1
        await asyncio.to_thread(app.wait_for_replicas, 2, victim)
        await asyncio.sleep(_PAUSE_S)


async def replace_routers(app: DeployedApp, requests: Requests) -> None:
    await eventually(lambda: requests.share >= 0.5, _HALF_TIMEOUT_S)
    await asyncio.to_thread(app.deploy, 2, 2, "Router")
    await asyncio.to_thread(app.wait_until_running)


async def ask_all(app: DeployedApp, adapters: Adapters) -> None:
    """Asks for each declared adapter once."""
    requests = Requests(app, adapters, 0)
    connection: Connection | None = None
    for name in sorted(adapters.may_answer):
        connection, _ = await requests.ask(name, Question("Are you there?", 3), connection)
    assert requests.outcomes == {"right": len(adapters.may_answer)}, requests.wrong


async def load(app: DeployedApp, adapters: Adapters, count: int, limit_s: float) -> dict[str, Any]:
    requests, kills = Requests(app, adapters, count), Counter[str]()
    began_s = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        await change(http, app, adapters)
        others = [
            asyncio.create_task(come_and_go(http, app, adapters, requests)),
            asyncio.create_task(kill_engines(app, kills)),
            asyncio.create_task(requests.say()),
        ]
        replaced = asyncio.create_task(replace_routers(app, requests))
        async with asyncio.timeout(limit_s):
            await requests.run()
            took_s = time.monotonic() - began_s
            await replaced
        for other in others:
            if other.done():
                other.result()
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.to_thread(app.wait_for_replicas, 2)
        victim = app.routers()[0]
        victim.kill()
        await until(lambda: len(now := app.routers()) == 2 and victim not in now, 60, "two routers")
        for name in set(adapters.may_answer) - set(adapters.digests):
            del adapters.may_answer[name]
        await change(http, app, adapters)
        await ask_all(app, adapters)
    return {
        "outcomes": dict(requests.outcomes),
        "wrong": requests.wrong[:20],
        "refused": requests.refused,
        "waited_for_slot": requests.waited_for_slot,
        "kills": dict(kills),
        "changes": len(adapters.seen_s),
        "longest_until_seen_s": round(max(adapters.seen_s), 2),
        "requests_per_s": round(count / took_s),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--adapters", type=int, default=100)
    parser.add_argument("--limit-s", type=float, default=480)
    args = parser.parse_args()
    base = base_of(ModelConfig(model="tiny-mistral-small-3.2", adapters_folder="/unused").entry)
    room = {
        "max_loras": _MAX_LORAS,
        "max_lora_rank": _RANK,
        "host_cache_gib": (_MAX_LORAS + _RESIDENT) * adapter_bytes(base.network, _RANK) / GIB,
    }
    assert base.model_id == MODEL
    with tempfile.TemporaryDirectory() as folder:
        adapters = Adapters(Path(folder), base, args.adapters)
        for name in adapters.names:
            adapters.may_answer[name] = {adapters.declare(name)}
        adapters.declare_bad_ones()
        with running("stand-in", 2000, adapters_folder=str(adapters.folder), lora=room) as app:
            app.deploy(routers=2, engines=2)
            app.wait_until_running()
            app.wait_for_replicas(2)
            result = asyncio.run(load(app, adapters, args.requests, args.limit_s))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
