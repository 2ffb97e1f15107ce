"""Builds in GGUF of the embedded 2501 on real llama.cpp, behind our router and beside vLLM with the
same weights."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.e2e.llama_cpp import environment
from tests.e2e.llama_cpp.server import HOST, serving, write_model
from tests.e2e.service import LOCAL_CONFIG, Service, running
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.full

VLLM = "tiny-2501"
F16, Q8_0 = "mistral-small-2501-gguf", "me/q8_0"
CONTEXT_TOKENS = {F16: 8192, Q8_0: 512}
GREEDY: dict[str, Any] = {"temperature": 0, "extra_body": {"repeat_penalty": 1.0}}
QUESTIONS = (
    "Give me the capital of France as JSON.",
    "Count from 1 to 10.",
    "Hello",
    "Give me five non-formal ways to say 'See you later' in French.",
)


@dataclass
class Servers:
    """The two servers of llama.cpp, by the models' names at the router."""

    python: Path
    folder: Path
    models: dict[str, Path]
    ports: dict[str, int]
    processes: dict[str, subprocess.Popen[bytes]]
    stack: contextlib.ExitStack

    def start(self, name: str) -> None:
        server = serving(
            self.python,
            self.models[name],
            self.ports[name],
            self.folder / "llama.log",
            context_tokens=CONTEXT_TOKENS[name],
        )
        self.processes[name] = self.stack.enter_context(server)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    try:
        python = environment.python()
    except environment.NotBuiltError as error:
        pytest.skip(f"llama.cpp cannot be built here: {error}")
    folder = tmp_path_factory.mktemp("llama_cpp")
    models = {
        F16: write_model(python, folder / "f16.gguf", "f16"),
        Q8_0: write_model(python, folder / "q8_0.gguf", "q8_0"),
    }
    ports = {name: free_port() for name in models}
    with contextlib.ExitStack() as stack:
        servers = Servers(python, folder, models, ports, {}, stack)
        for name in models:
            servers.start(name)
        yield servers


@pytest.fixture(scope="module")
def router(servers: Servers) -> Iterator[Service]:
    """A service of the catalogue's entry, a file of one's own, and an engine of the same model."""
    own = {
        "id": Q8_0,
        "kind": "openai",
        "base_url": f"http://{HOST}:{servers.ports[Q8_0]}/v1",
        "tokenizer": "v7",
        "context_tokens": 32768,
        "sampling": {"temperature": 0.15},
    }
    (servers.folder / "own.yaml").write_text(yaml.safe_dump(own))
    document = yaml.safe_load(LOCAL_CONFIG.read_text())
    args = document["applications"][0]["args"]
    args["router"] |= {"port": free_port(), "admission": {"max_wait_s": 1}}
    args["models"] = [
        {
            "model": "mistral-small-24b-instruct-2501-gguf",
            "variant": "llama.cpp",
            "base_url": f"http://{HOST}:{servers.ports[F16]}/v1",
        },
        {"model": "own.yaml"},
        {"model": "tiny-mistral-small-2501", "cpus": 0.5},
    ]
    config = servers.folder / "router.yaml"
    config.write_text(yaml.safe_dump(document))
    with running(config) as service:
        wait_for(lambda: all(is_up(service, name) for name in (F16, Q8_0)), 30, "both are found")
        yield service


@pytest.fixture
def client(router: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{router.url}/v1", api_key="EMPTY", max_retries=0, timeout=120
    ) as client:
        yield client


def is_up(service: Service, name: str) -> bool:
    return ask(service, name).status_code == 200


def ask(service: Service, name: str, **fields: Any) -> httpx.Response:
    body = {"model": name, "messages": [{"role": "user", "content": "Hello"}]} | fields
    return httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60)


def question(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_the_routers_list_has_all_models(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed == [
        "lmstudio-community/Mistral-Small-24B-Instruct-2501-GGUF",
        Q8_0,
        "mistral-serve/tiny-mistral-small-2501",
    ]


@pytest.mark.parametrize("name", [F16, Q8_0])
@pytest.mark.parametrize("text", QUESTIONS)
def test_its_greedy_answer_is_vllms(client: openai.OpenAI, name: str, text: str) -> None:
    vllms = client.chat.completions.create(model=VLLM, messages=question(text), temperature=0)
    answer = client.chat.completions.create(model=name, messages=question(text), **GREEDY)
    assert answer.choices[0].message.content == vllms.choices[0].message.content
    assert answer.choices[0].finish_reason == vllms.choices[0].finish_reason == "stop"
    assert answer.usage and vllms.usage
    assert answer.usage.prompt_tokens == vllms.usage.prompt_tokens  # the prompts are the same
    assert answer.usage.completion_tokens > 0


def test_the_prompt_of_several_texts_and_turns_is_vllms(client: openai.OpenAI) -> None:
    texts: Any = [{"type": "text", "text": "Count from"}, {"type": "text", "text": "1 to 10."}]
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": texts},
        {"role": "user", "content": "Now."},
    ]
    prompt_tokens = set()
    for name in (VLLM, F16, Q8_0):
        answer = client.chat.completions.create(model=name, messages=messages, max_tokens=1)
        assert answer.usage
        prompt_tokens.add(answer.usage.prompt_tokens)
    assert len(prompt_tokens) == 1


@pytest.mark.parametrize("stop", [None, ["5"]])
def test_a_stream_is_the_whole_answer_and_ends_at_a_stop(
    client: openai.OpenAI, stop: list[str] | None
) -> None:
    asked: dict[str, Any] = {"model": F16, "messages": question(QUESTIONS[1]), "stop": stop}
    whole = client.chat.completions.create(**asked, **GREEDY).choices[0]
    with client.chat.completions.create(**asked, **GREEDY, stream=True) as stream:
        choices = [choice for chunk in stream for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    assert text == whole.message.content == "1, 2, 3, 4, " + ("" if stop else "5, 6, 7, 8, 9, 10")
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]


def test_the_limit_on_an_answer_holds_by_either_name(client: openai.OpenAI) -> None:
    limits: tuple[dict[str, Any], ...] = ({"max_tokens": 4}, {"max_completion_tokens": 4})
    for limit in limits:
        answer = client.chat.completions.create(
            model=F16, messages=question(QUESTIONS[1]), **GREEDY, **limit
        )
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage and answer.usage.completion_tokens == 4


def test_a_prompt_that_is_too_long_for_it_is_a_400_of_openais_form(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=Q8_0, messages=question("long " * 600))
    assert raised.value.code == "context_length_exceeded"
    assert "maximum context length is 512 tokens" in raised.value.message


def test_a_stream_that_it_ends_without_an_answer_is_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=Q8_0, messages=question("long " * 600), stream=True)
    assert (raised.value.status_code, raised.value.code) == (502, "no_answer")


def test_a_server_that_dies_is_missed_and_one_that_comes_back_is_found(
    servers: Servers, router: Service
) -> None:
    servers.processes[Q8_0].kill()
    servers.processes[Q8_0].wait()
    answer = ask(router, Q8_0)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0

    def is_ejected() -> bool:
        replicas = httpx.get(f"{router.url}/-/status", timeout=60).json()["models"][Q8_0][
            "replicas"
        ]
        return not replicas

    wait_for(is_ejected, 60, "the other server is missed")
    answer = ask(router, Q8_0)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_replica")
    assert is_up(router, F16) and is_up(router, VLLM)
    servers.start(Q8_0)
    wait_for(lambda: is_up(router, Q8_0), 60, "the other server is found again")
