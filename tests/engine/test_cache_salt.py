"""What an engine caches of a request is separated by the salt that its router sends."""

import json
from dataclasses import replace
from typing import Any

import pytest
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.media.image import ImageMediaIO

from serving.engine.vllm.cache_salt import salted
from serving.engine.vllm.image_connector import ImageConnector
from tests.engine.asking import BODIES, CHAT, MESSAGES, RESPONSES, asked
from tests.engine.fake_llm import FakeLlm, control, ids
from tests.engine.pictures import PNG, data_url
from tests.support.reading import RULES

SALTED = {"x-cache-salt": "0123456789abcdef"}
PUBLIC = replace(RULES, public_system_prompts=("You are {name}.",))
END = control("[/SYSTEM_PROMPT]")


def salt_of(engine: FakeLlm) -> Any:
    return engine.calls[0].prompt.get("cache_salt")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("headers", "own", "expected"),
    [
        ({}, {}, None),
        (SALTED, {}, "0:0123456789abcdef"),
        (SALTED, {"cache_salt": "s"}, "0:0123456789abcdefs"),
    ],
)
async def test_a_clients_salt_separates_within_that_of_its_tenant(
    path: str, headers: dict[str, str], own: dict[str, Any], expected: str | None
) -> None:
    engine = FakeLlm()
    assert (await asked(engine, path, headers=headers, **own)).status_code == 200
    assert salt_of(engine) == expected


@pytest.mark.parametrize("system", ["You are {name}.", "You are the-model."])
@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
async def test_a_public_system_prompt_is_not_salted(path: str, system: str) -> None:
    apis: dict[str, dict[str, Any]] = {
        CHAT: {"messages": [{"role": "system", "content": system}, *BODIES[CHAT]["messages"]]},
        RESPONSES: {"instructions": system},
        MESSAGES: {"system": [{"type": "text", "text": system}]},
    }
    engine = FakeLlm()
    await asked(engine, path, headers=SALTED, rules=PUBLIC, **apis[path])
    tokens = engine.calls[0].prompt["prompt_token_ids"]
    assert tokens[: tokens.index(END) + 1] == [1, control("[SYSTEM_PROMPT]"), *ids(system), END]
    assert salt_of(engine) == f"{tokens.index(END) + 1}:0123456789abcdef"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"messages": [{"role": "system", "content": "You are"}, *BODIES[CHAT]["messages"]]},
        {"messages": [{"role": "user", "content": "You are {name}."}]},
        {
            "messages": [
                {"role": "system", "content": "You are {name}."},
                {"role": "system", "content": "A secret."},
                *BODIES[CHAT]["messages"],
            ],
            "truncate_prompt_tokens": 20,
        },
    ],
)
async def test_any_other_beginning_is_salted(fields: dict[str, Any]) -> None:
    engine = FakeLlm()
    await asked(engine, CHAT, headers=SALTED, rules=PUBLIC, **fields)
    assert salt_of(engine) == "0:0123456789abcdef"


async def test_without_tenants_a_public_system_prompt_changes_nothing() -> None:
    engine = FakeLlm()
    await asked(engine, CHAT, rules=PUBLIC)
    assert salt_of(engine) is None


async def loaded(salt: str | None) -> Any:
    with salted(salt):
        return await ImageConnector().load_from_url_async(data_url(PNG), ImageMediaIO())


async def test_vllm_caches_an_image_for_each_salt() -> None:
    images = [await loaded(salt) for salt in (None, "a", "a", "b")]
    plain, first, second, other = (
        MultiModalHasher.hash_kwargs("blake3", image=image) for image in images
    )
    assert first == second
    assert len({plain, first, other}) == 3
    assert plain == MultiModalHasher.hash_kwargs("blake3", image=ImageMediaIO().load_bytes(PNG))
    assert images[0].media.tobytes() == images[1].media.tobytes()


@pytest.mark.parametrize("path", [CHAT, "/tokenize", "/v1/messages/count_tokens"])
async def test_images_are_loaded_with_the_salt(path: str) -> None:
    engine = FakeLlm()
    hashes: list[str] = []
    render = engine.renderer.render_chat_async

    async def load_and_render(*args: Any, **kwargs: Any) -> Any:
        image = await ImageConnector().load_from_url_async(data_url(PNG), ImageMediaIO())
        hashes.append(MultiModalHasher.hash_kwargs("blake3", image=image))
        return await render(*args, **kwargs)

    engine.renderer.render_chat_async = load_and_render  # type: ignore[method-assign]
    body = json.dumps(BODIES[CHAT]).encode()
    for headers in (SALTED, SALTED, {"x-cache-salt": "f" * 16}, {}):
        await asked(engine, path, headers=headers, content=body)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


async def test_an_engine_remembers_grammars_for_each_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.engine.grammar_check import GrammarCheck
    from serving.engine.grammar_compiler import Tokens

    compiled: list[str] = []

    async def compile(self: GrammarCheck, grammar: str) -> str:
        compiled.append(grammar)
        return ""

    monkeypatch.setattr(GrammarCheck, "_compile", compile)
    grammars = GrammarCheck(Tokens([], 0, 256))
    for salt in ("a", "a", "b", None, None):
        await grammars.check("start: /x/", salt)
    assert len(compiled) == 3
