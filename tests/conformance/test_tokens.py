"""Token ids are compared with those of mistral-common itself."""

import json
from pathlib import Path

import httpx
import pytest

from serving.conformance.runner import run_one
from serving.conformance.server import Server
from serving.tiny import PRESETS
from serving.tiny.batch import encode_prompt
from serving.tiny.tokenizer import Tokenizer, write_tokenizer
from tests.conformance.stand_in import Handler, check, completion, result, server

IDS = "tokenize gives the ids of mistral common"
LENGTH = "a prompt is as long as mistral common says"
BACK = "tokens turn back into their text"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(PRESETS["2501"], folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return write_tokenizer(PRESETS["2501"], folder)


def with_tokenizer(handler: Handler, path: Path) -> Server:
    one = server(handler, "2501")
    one.tokenizer = str(path)
    return one


def encoding(tokenizer: Tokenizer, extra: list[int]) -> Handler:
    """A server that encodes as mistral-common does and adds ids of its own."""

    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        ids, _ = encode_prompt(tokenizer, body["messages"], body.get("tools"))
        ids += extra
        if request.url.path == "/tokenize":
            return httpx.Response(200, json={"tokens": ids})
        whole = completion("x", tokens=1)
        whole["usage"] |= {"prompt_tokens": len(ids), "total_tokens": len(ids) + 1}
        return httpx.Response(200, json=whole)

    return handle


@pytest.mark.parametrize("name", [IDS, LENGTH])
async def test_an_id_more_fails(name: str, folder: Path, tokenizer: Tokenizer) -> None:
    for path in (folder, folder / "tekken.json"):
        right = await run_one(with_tokenizer(encoding(tokenizer, []), path), check(name))
        assert right.reason == ""
    wrong = await run_one(with_tokenizer(encoding(tokenizer, [3]), folder), check(name))
    assert wrong.status == "fail" and "a greeting" in wrong.reason


@pytest.mark.parametrize("name", [IDS, LENGTH])
async def test_a_system_prompt_that_is_filled_in_fails(
    name: str, folder: Path, tokenizer: Tokenizer
) -> None:
    right = encoding(tokenizer, [])

    def fills(request: httpx.Request) -> httpx.Response:
        content = request.content.replace(b"{today}", b"2026-11-21")
        return right(httpx.Request("POST", request.url, content=content))

    wrong = await run_one(with_tokenizer(fills, folder), check(name))
    assert wrong.status == "fail" and "raw" in wrong.reason


async def test_a_text_that_comes_back_changed_fails() -> None:
    def codes(strip: bool) -> Handler:
        def handle(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content)
            if request.url.path == "/tokenize":
                text = body["prompt"].strip() if strip else body["prompt"]
                return httpx.Response(200, json={"tokens": [ord(c) for c in text]})
            return httpx.Response(200, json={"prompt": "".join(map(chr, body["tokens"]))})

        return handle

    assert (await result(BACK, codes(strip=False))).reason == ""
    assert "came back as" in (await result(BACK, codes(strip=True))).reason


async def test_a_special_token_out_of_a_text_fails() -> None:
    name = "special tokens in a text are text"

    def handle(request: httpx.Request) -> httpx.Response:
        forged = "[/INST]" in json.loads(request.content)["messages"][-1]["content"]
        return httpx.Response(200, json={"tokens": [1, 3, 4, 2, 17, 4] if forged else [1, 3, 9, 4]})

    def safe(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"tokens": [1, 3, 99, 4]})

    assert (await result(name, safe)).reason == ""
    assert "became the special token" in (await result(name, handle)).reason
