"""What a tenant learns of another's prompts from a real engine: nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from serving import model_cards
from serving.conformance.pictures import COLOURS, picture
from tests.e2e.service import ROOT, own_temporary_folder
from tests.e2e.shared_engine import BLOCK_TOKENS, PUBLIC
from tests.engine.pictures import data_url, encoded
from tests.support.live_router import CHAT, MODEL
from tests.support.roc import area_under_roc

pytestmark = pytest.mark.full


@dataclass
class Seen:
    """What a client sees of an answer's beginning."""

    ttft_s: float
    headers: dict[str, str]

    @property
    def cached_tokens(self) -> int:
        return int(self.headers["x-cached-tokens"])

    @property
    def prompt_tokens(self) -> int:
        return int(self.headers["x-prompt-tokens"])

    @property
    def measures(self) -> dict[str, float]:
        """All that is a number, by the names of the headers."""
        numbers = {name: float(text) for name, text in self.headers.items() if text.isdecimal()}
        return {"ttft_s": self.ttft_s, **numbers}

    @property
    def words(self) -> set[tuple[str, str]]:
        """All headers that are no number, but those of this one answer."""
        return {
            (name, text)
            for name, text in self.headers.items()
            if name not in ("x-request-id", "date") and not text.isdecimal()
        }


@dataclass
class Client:
    http: httpx.Client

    def ask(self, tenant: str, *turns: tuple[str, Any]) -> Seen:
        body = {
            "model": MODEL,
            "messages": [{"role": role, "content": content} for role, content in turns],
            "max_tokens": 2,
            "stream": True,
        }
        began_s = time.perf_counter()
        with self.http.stream("POST", CHAT, json=body, headers={"x-api-key": tenant}) as response:
            assert response.status_code == 200
            pieces = response.iter_raw()
            next(pieces)
            ttft_s = time.perf_counter() - began_s
            for _ in pieces:
                pass
        return Seen(ttft_s, dict(response.headers))

    def answer(self, tenant: str, **fields: Any) -> Any:
        response = self.http.post(
            CHAT, json={"model": MODEL, **fields}, headers={"x-api-key": tenant}
        )
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with own_temporary_folder() as environment:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.shared_engine"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            url = next((line for line in process.stdout if line.startswith("http://")), "").strip()
            assert url, "the engine did not start"
            with httpx.Client(base_url=url, timeout=120) as http:
                yield Client(http)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def prompt(number: float) -> tuple[str, str]:
    """Returns a turn of the user's that shares nothing with another."""
    return "user", f"{number}: " + "Summarise this contract for me. " * 250


def areas(client: Client, attacker: str, first: int, probes: int) -> dict[str, float]:
    """Has the victim ask in half of the cases what the attacker then asks. Returns for each measure
    of the attacker's how well it tells the cases apart."""
    seen: tuple[list[Seen], list[Seen]] = ([], [])
    cases = random.Random(2)
    for number in range(first, first + probes):
        same = cases.random() < 0.5
        client.ask("victim", prompt(number if same else number + 0.5))
        seen[same].append(client.ask(attacker, prompt(number)))
    same_words, other_words = (set().union(*(one.words for one in seen[same])) for same in (1, 0))
    assert same_words == other_words
    return {
        name: area_under_roc(*([one.measures[name] for one in seen[same]] for same in (1, 0)))
        for name in seen[0][0].measures
    }


def test_probes_tell_nothing_of_another_tenants_prompts(client: Client) -> None:
    """By chance the area for a time is within 0.2 of a half in 99.9 % of the runs."""
    found = areas(client, "attacker", 0, probes=100)
    assert found["x-cached-tokens"] == found["x-expected-cached-tokens"] == 0.5
    assert {name: area for name, area in found.items() if abs(area - 0.5) >= 0.2} == {}


def test_within_a_tenant_the_same_probes_tell(client: Client) -> None:
    found = areas(client, "victim", 10_000, probes=20)
    assert found["x-cached-tokens"] == found["x-expected-cached-tokens"] == 1
    assert found["ttft_s"] < 0.1


def test_a_public_system_prompt_is_shared_and_nothing_behind_it(client: Client) -> None:
    whole = client.ask("victim", ("system", PUBLIC), prompt(0.1))
    own = client.ask("victim", ("system", PUBLIC), prompt(0.1))
    other = client.ask("attacker", ("system", PUBLIC), prompt(0.1))
    public_tokens = client.ask("victim", ("system", PUBLIC), ("user", "?")).cached_tokens
    assert own.cached_tokens > own.prompt_tokens - 2 * BLOCK_TOKENS
    # At most the rest of a block and the last whole one are not shared.
    assert public_tokens - 2 * BLOCK_TOKENS <= other.cached_tokens <= public_tokens
    assert public_tokens - other.cached_tokens < 0.02 * other.prompt_tokens
    assert whole.prompt_tokens == other.prompt_tokens


def test_an_image_is_the_same_to_every_tenant(client: Client) -> None:
    image = data_url(encoded(size=(280, 280)))
    content = [
        {"type": "text", "text": "What colour?"},
        {"type": "image_url", "image_url": {"url": image}},
    ]
    turns = [{"role": "user", "content": content}]
    answers = [
        client.answer(tenant, messages=turns, temperature=0, max_tokens=20)
        for tenant in ("victim", "victim", "attacker", "attacker")
    ]
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers]
    assert cached[0] == cached[2] == 0
    assert cached[1] == cached[3] > 0


def test_an_image_is_seen_as_sent_whatever_its_uuid_is(client: Client) -> None:
    """vLLM would find the first one in its caches."""
    for tenant, colour, size in (
        ("victim", "red", 56),
        ("victim", "blue", 56),
        ("attacker", "green", 56),
        ("attacker", "red", 84),
    ):
        image = picture(COLOURS[colour], size, size)
        part = model_cards.image_message("", image)["content"][1]
        question = {"type": "text", "text": "What color is this image?", "uuid": "a"}
        turns = [{"role": "user", "content": [question, part | {"uuid": "a"}]}]
        answer = client.answer(tenant, messages=turns, temperature=0, max_tokens=20)
        assert colour in answer["choices"][0]["message"]["content"]
