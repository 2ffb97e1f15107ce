"""A model on another OpenAI server, here plain vLLM with an API key, behind our router."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from serving.tiny import tiny_model_folder
from tests.bench.frontend_process import (
    CARD_FLAGS,
    SMALL_FLAGS,
    TOOL_FLAGS,
    plain,
    wait_until_ready,
)
from tests.bench.relay_process import HOST, MODEL, Server
from tests.e2e.service import LOCAL_CONFIG, Service, running
from tests.support.ports import free_port
from tests.support.waiting import wait_for

pytestmark = pytest.mark.full

KEY_ENV, KEY = "ELSEWHERE_KEY", "sk-elsewhere"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = {"model": str(tiny_model_folder()), **CARD_FLAGS, **TOOL_FLAGS, **SMALL_FLAGS}
    log = tmp_path_factory.mktemp("elsewhere") / "vllm.log"
    with plain(flags | {"api-key": KEY}, log) as server:
        wait_until_ready({"vLLM": server})
        yield server


@pytest.fixture(scope="module")
def router(elsewhere: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("router")
    entry = {
        "id": "me/elsewhere",
        "aliases": ["elsewhere"],
        "kind": "openai",
        "base_url": f"http://{HOST}:{elsewhere.port}/v1",
        "upstream_model": MODEL,
        "api_key_env": KEY_ENV,
        "tokenizer": "v11",
        "context_tokens": 8192,
        "image_limit": 10,
        "sampling": {"temperature": 0.0},
    }
    (folder / "elsewhere.yaml").write_text(yaml.safe_dump(entry))
    document = yaml.safe_load(LOCAL_CONFIG.read_text())
    args = document["applications"][0]["args"]
    args["router"] |= {"port": free_port(), "admission": {"max_wait_s": 1}}
    args["models"] = [{"model": "elsewhere.yaml"}]
    (folder / "router.yaml").write_text(yaml.safe_dump(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_ENV, KEY)
        with running(folder / "router.yaml") as service:
            wait_for(lambda: service_is_healthy(service), 30, "the other server is found")
            yield service


def service_is_healthy(service: Service) -> bool:
    return httpx.get(f"{service.url}/health", timeout=60).status_code == 200


def test_a_client_of_the_router_is_answered_by_the_other_server(router: Service) -> None:
    with openai.OpenAI(base_url=f"{router.url}/v1", api_key="EMPTY", max_retries=0) as client:
        (model,) = client.models.list().data
        assert model.id == "me/elsewhere"
        ask: dict[str, Any] = {
            "messages": [{"role": "user", "content": "Give me the capital of France as JSON."}],
            "response_format": {"type": "json_object"},
        }
        answer = client.chat.completions.create(model="elsewhere", max_tokens=131072, **ask)
        assert "Paris" in (answer.choices[0].message.content or "")
        stream = client.chat.completions.create(model="me/elsewhere", stream=True, **ask)
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces) == answer.choices[0].message.content


def test_the_router_alone_has_its_key(elsewhere: Server, router: Service) -> None:
    url = f"http://{HOST}:{elsewhere.port}/v1/models"
    assert httpx.get(url, timeout=60).status_code == 401
    logs = [path for path in router.folder.rglob("*") if path.is_file()]
    assert logs and not any(KEY.encode() in path.read_bytes() for path in logs)


def test_a_server_that_goes_away_is_a_503_that_says_when_to_ask_again(
    elsewhere: Server, router: Service
) -> None:
    os.kill(elsewhere.pid, signal.SIGTERM)  # SIGKILL would leave its shared memory behind
    wait_for(lambda: not service_is_healthy(router), 30, "the other server is missed")
    body = {"model": "elsewhere", "messages": [{"role": "user", "content": "Hello"}]}
    response = httpx.post(f"{router.url}/v1/chat/completions", json=body, timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_replica")
    assert int(response.headers["retry-after"]) > 0
