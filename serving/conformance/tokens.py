"""Token ids, which must be those of mistral-common: the models were trained on them."""

import functools
import json
from pathlib import Path
from typing import Any

from serving.tiny.prompts import SYSTEM_PROMPTS

from .cases import CASES, asked
from .check import Theme
from .expect import expect
from .needs import tokenizer
from .server import Server, ok

theme = Theme("tokens")
check = theme.check

RAW_PROMPT = asked("Hello", SYSTEM_PROMPTS["3.2"], temperature=0, max_tokens=1)
"""A request whose system prompt contains `{name}` and `{today}`, as a client may send it."""
TEXTS = ("Hello", "  two  spaces\n\n\ttab", "日本語 हिन्दी עברית 🧪", "½ + ½ = 1 €", "")


@functools.cache
def load_tokenizer(path: str) -> Any:
    """The tokenizer of a tekken.json, or of a folder that has one. Raises OSError, or an Exception
    of mistral-common's for a file that is not a tokenizer."""
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    file = Path(path)
    return MistralTokenizer.from_file(str(file / "tekken.json" if file.is_dir() else file))


def _encoded(server: Server, body: dict[str, Any]) -> list[int]:
    """The token ids that mistral-common gives a chat request."""
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    arguments = {name: body[name] for name in ("messages", "tools") if name in body}
    request = ChatCompletionRequest.from_openai(**json.loads(json.dumps(arguments)))
    tokens: list[int] = (
        load_tokenizer(server.tokenizer or "").encode_chat_completion(request).tokens
    )
    return tokens


@check(tokenizer, limit_s=120)
async def tokenize_gives_the_ids_of_mistral_common(server: Server) -> None:
    """`/tokenize` gives mistral-common's ids for the messages and tools of every case of this
    suite."""
    bodies = {
        name: server.body(name)
        for name, case in CASES.items()
        if not any(need(server) for need in case.needs)
    }
    for name, body in (bodies | {"a raw system prompt": RAW_PROMPT}).items():
        request: dict[str, Any] = {k: body[k] for k in ("messages", "tools") if k in body}
        ids = ok(await server.post("/tokenize", request))["tokens"]
        expected = _encoded(server, body)
        expect(ids == expected, f"{name}: {len(ids)} ids, of mistral-common {len(expected)}")


@check(tokenizer)
async def a_prompt_is_as_long_as_mistral_common_says(server: Server) -> None:
    """`usage.prompt_tokens` is mistral-common's count: the server adds no system prompt and fills
    in none of the client's fields."""
    for name in ("a greeting", "a tool call", "text after two results"):
        answer = await server.answer(name)
        expected = len(_encoded(server, server.body(name)))
        expect(answer.prompt_tokens == expected, f"{name}: {answer.prompt_tokens}, not {expected}")
    answer = await server.chat(RAW_PROMPT)
    expected = len(_encoded(server, RAW_PROMPT))
    expect(answer.prompt_tokens == expected, f"raw: {answer.prompt_tokens}, not {expected}")


@check()
async def tokens_turn_back_into_their_text(server: Server) -> None:
    """`/tokenize` and `/detokenize` round-trip text in any script."""
    for text in TEXTS:
        body = {"prompt": text, "add_special_tokens": False}
        ids = ok(await server.post("/tokenize", body))["tokens"]
        back = ok(await server.post("/detokenize", {"tokens": ids}))["prompt"]
        expect(back == text, f"{text!r} came back as {back!r}")
