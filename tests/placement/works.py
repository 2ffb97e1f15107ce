"""Requests for tests: prompts in blocks of 100 tokens, each named by a number."""

from typing import Any

from serving.placement import Prefix, Work


def prefix(*blocks: int, answer: tuple[int, int] | None = None) -> Prefix:
    """Returns a chain whose block hashes are these numbers: equal ones stand for equal chains so
    far."""
    ends = [100 * (i + 1) for i in range(len(blocks))]
    return Prefix(list(blocks), ends, 100 * len(blocks), answer)


def work(
    *blocks: int, prompt_tokens: int | None = None, output_tokens: int = 100, **fields: Any
) -> Work:
    chain = prefix(*blocks)
    tokens = chain.tokens if prompt_tokens is None else prompt_tokens
    return Work(chain, tokens, output_tokens, **fields)
