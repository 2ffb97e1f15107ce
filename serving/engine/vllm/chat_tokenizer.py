"""Tokenizes chats without the work that an agent's turns would repeat."""

import copy
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from threading import Lock
from typing import Any

from vllm.tokenizers.mistral import MistralTokenizer

from serving.engine.vllm.cache_salt import CACHE_SALT

_MOST_BYTES = 64 << 20
"""A token takes some 9 bytes with its text, so that these are about 70 conversations of 100,000
tokens each."""

_SHORTEST = 64
"""Characters. What is shorter takes little longer to encode than to remember."""

_MOST_FUNCTIONS = 4096


def chat_tokenizer(tokenizer: MistralTokenizer) -> MistralTokenizer:
    """Returns a copy of vLLM's tokenizer whose `apply_chat_template` gives the same tokens sooner.

    An agent sends its tools and all earlier messages again with each turn. So the copy remembers
    the tokens of texts, and the functions that mistral_common has found valid, which it checks in
    pure Python. It makes no text of the prompt's tokens, which nobody reads and mistral_common
    makes up to its version 1.12: it cannot decode. The time that a request takes tells nothing of
    requests with other cache salts.
    """
    original = tokenizer.mistral
    validator = copy.copy(original._chat_completion_request_validator)
    validator._validate_function = RememberedFunctions(validator._validate_function)
    instruct = copy.copy(original.instruct_tokenizer)
    instruct.tokenizer = copy.copy(instruct.tokenizer)
    instruct.tokenizer.encode = RememberedTokens(instruct.tokenizer.encode)
    instruct.decode = _no_text
    backend = copy.copy(tokenizer.transformers_tokenizer)
    backend.tokenizer = type(original)(instruct, validator, original._instruct_request_normalizer)
    copied = copy.copy(tokenizer)
    copied.transformers_tokenizer = backend
    return copied


def _no_text(**_: Any) -> str:
    return ""


class RememberedTokens:
    """The method `encode` of mistral_common's tokenizers of texts, which remembers its results."""

    def __init__(
        self, encode: Callable[[str, bool, bool], list[int]], most_bytes: int = _MOST_BYTES
    ) -> None:
        self._encode = encode
        self._tokens: OrderedDict[tuple[str | None, str], array[int]] = OrderedDict()
        self._bytes_left = most_bytes
        self._lock = Lock()

    def __call__(self, s: str, bos: bool, eos: bool) -> list[int]:
        if bos or eos or len(s) < _SHORTEST:
            return self._encode(s, bos, eos)
        key = CACHE_SALT.get(), s
        with self._lock:
            known = self._tokens.get(key)
            if known is not None:
                self._tokens.move_to_end(key)
                return known.tolist()
        tokens = self._encode(s, bos, eos)
        self._remember(key, array("I", tokens))
        return tokens

    def _remember(self, key: tuple[str | None, str], tokens: "array[int]") -> None:
        with self._lock:
            if self._tokens.setdefault(key, tokens) is tokens:
                self._bytes_left -= _size_bytes(key, tokens)
            while self._bytes_left < 0:
                self._bytes_left += _size_bytes(*self._tokens.popitem(last=False))


def _size_bytes(key: tuple[str | None, str], tokens: "array[int]") -> int:
    return sys.getsizeof(key[1]) + sys.getsizeof(tokens) + 200  # of the entry, its key and the salt


class RememberedFunctions:
    """The method `_validate_function` of mistral_common's validators, which remembers those that
    are valid."""

    def __init__(self, validate: Callable[[Any], None]) -> None:
        self._validate = validate
        self._valid: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def __call__(self, function: Any) -> None:
        text = f"{CACHE_SALT.get()}\0{function.name}\0{function.parameters!r}"
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            if digest in self._valid:
                self._valid.move_to_end(digest)
                return
        self._validate(function)
        with self._lock:
            self._valid[digest] = None
            if len(self._valid) > _MOST_FUNCTIONS:
                self._valid.popitem(last=False)
