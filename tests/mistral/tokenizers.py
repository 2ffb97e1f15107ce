"""mistral-common's own encoder for each tokenizer version: it accepts what a model accepts."""

import functools
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from serving.mistral import ModelRules
from serving.tiny.spec import TinySpec
from serving.tiny.tokenizer import TEKKEN_FILE, tekken

VERSIONS = ("v7", "v11", "v13")


def rules(version: Any = "v11", **changes: Any) -> ModelRules:
    facts: dict[str, Any] = {"context_tokens": 1000, "image_limit": 10} | changes
    return ModelRules("mistral-test/small", version, **facts)


@functools.cache
def tokenizer(version: str) -> Any:
    """Returns a byte-level tokenizer with the special tokens of that version."""
    spec = TinySpec(tokenizer_version=version, vocab_tokens=300, special_tokens=100)
    model = tekken(spec)
    if version == "v13":
        for rank, name in ((34, "[THINK]"), (35, "[/THINK]")):
            token = {"rank": rank, "token_str": name, "is_control": True}
            model["special_tokens"].append(token)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TEKKEN_FILE
        path.write_text(json.dumps(model))
        return MistralTokenizer.from_file(str(path))


def prompt(version: str, body: dict[str, Any]) -> str | None:
    """Returns the prompt for a chat's messages and tools; None if the tokenizer rejects them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            request = ChatCompletionRequest.from_openai(body["messages"], body.get("tools"))
            encoded = tokenizer(version).encode_chat_completion(request)
        except (
            Exception
        ):  # vLLM handles those of pydantic and mistral-common, KeyError and AssertionError alike
            return None
    return str(tokenizer(version).decode(encoded.tokens, SpecialTokenPolicy.KEEP))
