"""Adapters on two real engines, more of them than there are slots, with a kill in between: every
answer has the words of its adapter."""

import concurrent.futures
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from serving.adapters import declared
from serving.adapters.config import AdapterConfig
from tests.e2e.service import MODEL, Service, mistral_serve, running, title, write_config
from tests.support.ports import free_port
from tests.support.tiny_adapters import MESSAGES, make_adapter, zero_adapter
from tests.support.waiting import wait_for

pytestmark = pytest.mark.full

_ADAPTERS = 5
_MAX_LORAS = 2
_CLIENTS = 6
_REQUESTS = 60
_KILL_AT = 25


@dataclass
class Adapters:
    service: Service
    config: Path
    sources: Path
    folder: Path
    words: dict[str, str]
    """What each adapter answers to the question."""

    def ask(self, name: str) -> httpx.Response:
        body = {"model": name, "messages": MESSAGES, "temperature": 0, "max_tokens": 20}
        return httpx.post(f"{self.service.url}/v1/chat/completions", json=body, timeout=300)

    def answer(self, name: str) -> str:
        response = self.ask(name)
        assert response.status_code == 200, response.text
        assert response.json()["model"] == name
        return str(response.json()["choices"][0]["message"]["content"]).strip()

    def models(self) -> dict[str, Any]:
        listed = httpx.get(f"{self.service.url}/v1/models", timeout=60).json()["data"]
        return {model["id"]: model["parent"] for model in listed}

    def cli(self, *args: str | Path) -> str:
        done = mistral_serve("adapters", *args, "--config", self.config)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adapters]:
    folder = tmp_path_factory.mktemp("adapters")
    sources, declarations = folder / "sources", folder / "declared"
    declarations.mkdir()
    words = {}
    for seed in range(_ADAPTERS):
        words[f"words-{seed}"] = make_adapter(sources / str(seed), seed)
        declared.write(
            declarations, AdapterConfig(name=f"words-{seed}", source=str(sources / str(seed)))
        )
    config = write_config(
        folder / "serve.yaml",
        free_port(),
        adapters_folder=str(declarations),
        lora={"max_loras": _MAX_LORAS, "max_lora_rank": 16, "host_cache_gib": 0.1},
    )
    with running(config) as service:
        yield Adapters(service, config, sources, declarations, words)


def test_each_adapter_answers_with_its_own_words_and_the_model_with_its(
    adapters: Adapters,
) -> None:
    assert len(set(adapters.words.values())) == _ADAPTERS
    assert adapters.models() == {MODEL: None, **dict.fromkeys(adapters.words, MODEL)}
    for name, words in adapters.words.items():
        assert adapters.answer(name) == words
    assert adapters.answer(MODEL) not in adapters.words.values()


def test_a_bad_adapter_is_refused_and_nothing_else_is_disturbed(adapters: Adapters) -> None:
    zero_adapter(adapters.sources / "of-another", base_model_name_or_path="other/model")
    zero_adapter(adapters.sources / "high-rank", rank=64)
    zero_adapter(adapters.sources / "no-module", module="mlp.w1")
    zero_adapter(adapters.sources / "broken")
    (adapters.sources / "broken/adapter_model.safetensors").write_bytes(b"broken")
    reasons = {
        "of-another": "wrong base",
        "high-rank": "rank above the limit",
        "no-module": "modules that do not exist",
        "broken": "broken files",
    }
    for name, reason in reasons.items():
        source = adapters.sources / name
        checked = mistral_serve("adapters", "check", source, "--config", adapters.config)
        assert checked.returncode == 1 and reason in checked.stderr
        declared.write(adapters.folder, AdapterConfig(name=name, source=str(source)))

    def refused() -> float:
        metrics = httpx.get(f"{adapters.service.url}/metrics", timeout=60).text
        line = next(one for one in metrics.splitlines() if "_refused_adapters{" in one)
        return float(line.split()[-1])

    wait_for(lambda: refused() == len(reasons), 30, "the routers have looked")
    for name in reasons:
        assert adapters.ask(name).status_code == 404
        declared.path_of(adapters.folder, name).unlink()
    for name, words in adapters.words.items():
        assert adapters.answer(name) == words
    assert not any(replica["left_out"] for replica in adapters.service.replicas())


def test_an_adapter_comes_and_goes_without_a_restart(adapters: Adapters) -> None:
    words = make_adapter(adapters.sources / "late", seed=100)
    adapters.cli("add", "late", adapters.sources / "late")
    wait_for(lambda: "late" in adapters.models(), 30, "the adapter is listed")
    assert adapters.answer("late") == words
    assert "late" in adapters.cli("list")
    adapters.cli("remove", "late")
    wait_for(lambda: "late" not in adapters.models(), 30, "the adapter is listed no more")
    assert adapters.ask("late").status_code == 404


def test_every_answer_is_of_its_adapter_through_the_kill_of_an_engine(adapters: Adapters) -> None:
    dice = random.Random(1)
    names = sorted(adapters.words)
    asked = dice.choices(names, [1 / (rank + 1) for rank in range(len(names))], k=_REQUESTS)
    before = {replica["replica"] for replica in adapters.service.replicas()}

    def answer(number: int) -> str:
        if number == _KILL_AT:
            engine = next(p for p in adapters.service.processes if "EngineCore" in title(p))
            psutil.Process(engine.pid).kill()
        return adapters.answer(asked[number])

    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as clients:
        answers = list(clients.map(answer, range(_REQUESTS)))
    assert answers == [adapters.words[name] for name in asked]

    def is_replaced() -> bool:
        now = {replica["replica"] for replica in adapters.service.replicas()}
        return len(now) == 2 and now != before

    wait_for(is_replaced, 300, "another engine is up in place of the killed one")
    with concurrent.futures.ThreadPoolExecutor(_CLIENTS) as clients:
        again = list(clients.map(adapters.answer, names * 4))
    assert again == [adapters.words[name] for name in names] * 4
