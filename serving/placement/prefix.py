"""A prompt as a chain of block hashes: two prompts share a prefix as far as their chains agree."""

from collections.abc import Iterable

import msgspec
from mmh3 import hash64

from serving.placement.prompt_parts import Kind, Part

BYTES_PER_TOKEN = 4.0
"""Average bytes per token of English text and JSON with Mistral's tekken tokenizer."""

IMAGE_TOKENS = 1500
"""Approximate tokens of an image of 1,000 x 1,000 pixels: one per 28 x 28 pixels, and the row
breaks."""

_MARK_TOKENS = 2
"""Special tokens around a part of a conversation."""

_BLOCK_BYTES = 256
_GROWTH = 8
"""A block has one byte for each eight tokens before it: about 1/32 of the prompt so far. So long
prompts have few blocks, and the shared length is still known to 3 %."""

_SALTS = {kind: kind * 0x1E3779B97F4A7C15 for kind in Kind}
_ANSWER = 0x2545F4914F6CDD1D


class Prefix(msgspec.Struct, frozen=True):
    """A prompt cut into blocks, in the order in which the engine sees it.

    The hashes are the same in every process. A new block begins with each message, so that a
    conversation has the blocks of its earlier turns.
    """

    hashes: list[int]
    """A hash of each block and all blocks before it; signed, 64 bits."""
    ends_tokens: list[int]
    """Tokens up to the end of each block."""
    tokens: int
    """Tokens of the whole prompt, estimated from its bytes."""
    answer: tuple[int, int] | None = None
    """The blocks of the last assistant's turn that another turn follows: first, and one past the
    last. The replica that generated this turn has it cached without having received it."""


def answer_hash(prompt_hash: int) -> int:
    """Returns the hash that stands for the answer, whatever it was, to a prompt that ends in
    `prompt_hash`."""
    return prompt_hash ^ _ANSWER


def prefix_of(
    parts: Iterable[Part],
    salt: int = 0,
    salted_from: int = 0,
    *,
    bytes_per_token: float = BYTES_PER_TOKEN,
) -> Prefix:
    """The chain of a prompt's parts. Images count by the string that names or holds them.

    Chains with another `salt` (signed, 64 bits) share only the parts before `salted_from`."""
    hashes: list[int] = []
    ends: list[int] = []
    chained = 0
    tokens = 0.0
    assistant, image, token_ids = Kind.ASSISTANT, Kind.IMAGE, Kind.TOKEN_IDS
    answer_start = answer_end = -1
    in_answer = False
    for index, (kind, text) in enumerate(parts):
        if index == salted_from:
            chained ^= salt
        if (kind is assistant) is not in_answer:
            in_answer = not in_answer
            if in_answer:
                open_at = len(hashes)
            else:
                answer_start, answer_end = open_at, len(hashes)
        data = text.encode("utf-8", "surrogatepass") if type(text) is str else text
        chained ^= _SALTS[kind]
        if kind > token_ids:
            tokens += _MARK_TOKENS
        if kind is image:
            chained ^= hash64(data, chained & 0xFFFFFFFF)[0]
            tokens += IMAGE_TOKENS
            hashes.append(chained)
            ends.append(int(tokens))
            continue
        tokens_per_byte = 0.25 if kind is token_ids else 1 / bytes_per_token
        start, size = 0, len(data)
        while start < size:
            end = start + (int(tokens) // _GROWTH & ~3)
            if end < start + _BLOCK_BYTES:
                end = start + _BLOCK_BYTES
            block = data[start:end]
            chained ^= hash64(block, chained & 0xFFFFFFFF)[0]
            tokens += len(block) * tokens_per_byte
            hashes.append(chained)
            ends.append(int(tokens))
            start = end
    answer = (answer_start, answer_end) if 0 < answer_start < answer_end else None
    return Prefix(hashes, ends, int(tokens), answer)
