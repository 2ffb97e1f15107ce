"""A hundred adapters on two real engines with slots for eight, asked for by Zipf's law while
adapters come and go and an engine is killed: every answer has the words of its adapter."""

import concurrent.futures
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from serving.adapters import declared
from serving.adapters.config import AdapterConfig
from tests.e2e.service import Service, running, title, write_config
from tests.support.ports import free_port
from tests.support.tiny_adapters import MESSAGES, make_adapter
from tests.support.waiting import wait_for

pytestmark = pytest.mark.full

_ADAPTERS = 100
_WORDS = 5
"""Distinct sets of words; each adapter has one of them, under a digest of its own."""
_REQUESTS = 600
_CLIENTS = 12
_KILL_AT = 150
_GIB_FOR_SOME = 0.002
"""Room in an engine for about a quarter of the adapters."""


class Adapters:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "declared"
        self.folder.mkdir()
        self._sources = folder / "sources"
        self._words = [make_adapter(self._sources / str(n), n) for n in range(_WORDS)]
        self.words: dict[str, str] = {}

    def declare(self, name: str, number: int) -> None:
        source = self._sources / name
        shutil.copytree(self._sources / str(number % _WORDS), source, dirs_exist_ok=True)
        config = source / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"trained_for": name}))
        declared.write(self.folder, AdapterConfig(name=name, source=str(source)))
        self.words[name] = self._words[number % _WORDS]

    def remove(self, name: str) -> None:
        declared.path_of(self.folder, name).unlink()


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    made = Adapters(tmp_path_factory.mktemp("many"))
    for number in range(_ADAPTERS):
        made.declare(f"adapter-{number}", number)
    return made


@pytest.fixture(scope="module")
def service(adapters: Adapters) -> Iterator[Service]:
    config = write_config(
        adapters.folder.parent / "serve.yaml",
        free_port(),
        adapters_folder=str(adapters.folder),
        lora={"max_loras": 8, "max_lora_rank": 8, "host_cache_gib": _GIB_FOR_SOME},
    )
    with running(config) as service:
        yield service


def listed(service: Service) -> set[str]:
    models = httpx.get(f"{service.url}/v1/models", timeout=60).json()["data"]
    return {model["id"] for model in models if model["parent"]}


def is_listed(service: Service, name: str) -> bool:
    return name in listed(service)


def is_gone(service: Service, name: str) -> bool:
    return name not in listed(service)


def test_every_answer_is_of_its_adapter(service: Service, adapters: Adapters) -> None:
    dice = random.Random(1)
    names = sorted(adapters.words)
    asked = dice.choices(names, [1 / (rank + 1) for rank in range(len(names))], k=_REQUESTS)
    stopped = threading.Event()
    seen: list[str] = []
    until_seen_s: list[float] = []

    def see(is_seen: Callable[[], bool], what: str) -> None:
        began_s = time.monotonic()
        wait_for(is_seen, 60, what)
        until_seen_s.append(time.monotonic() - began_s)

    def come_and_go() -> None:
        number = 0
        while not stopped.is_set():
            name = f"visitor-{number}"
            adapters.declare(name, number)
            see(partial(is_listed, service, name), "an adapter is listed")
            assert answer(name) == (200, adapters.words[name])
            adapters.remove(name)
            see(partial(is_gone, service, name), "it is listed no more")
            assert answer(name)[0] == 404
            seen.append(name)
            number += 1

    def answer(name: str) -> tuple[int, str]:
        body = {"model": name, "messages": MESSAGES, "temperature": 0, "max_tokens": 20}
        response = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=300)
        if response.status_code != 200:
            return response.status_code, response.text
        return 200, str(response.json()["choices"][0]["message"]["content"]).strip()

    def nth_answer(number: int) -> tuple[int, str]:
        if number == _KILL_AT:
            engine = next(p for p in service.processes if "EngineCore" in title(p))
            psutil.Process(engine.pid).kill()
        return answer(asked[number])

    with concurrent.futures.ThreadPoolExecutor(_CLIENTS + 1) as clients:
        changes = clients.submit(come_and_go)
        answers = list(clients.map(nth_answer, range(_REQUESTS)))
        stopped.set()
        changes.result()
    print(f"{len(until_seen_s)} changes, each seen within {max(until_seen_s):.2f} s")
    assert answers == [(200, adapters.words[name]) for name in asked]
    assert seen
    assert listed(service) == set(names)
