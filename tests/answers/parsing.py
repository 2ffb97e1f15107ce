"""Answers parsed from token ids, in any steps."""

import functools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from serving.answers.events import Answer
from serving.answers.parser import AnswerParser
from serving.answers.vocabulary import Vocabulary, of_tekken
from tests.mistral.tokenizers import tokenizer

_CONTROL = re.compile(r"(\[TOOL_CALLS\]|\[ARGS\]|\[CALL_ID\]|\[/?THINK\]|</?s>)")


@functools.cache
def tekken(version: str) -> Tekkenizer:
    model = tokenizer(version).instruct_tokenizer.tokenizer
    assert isinstance(model, Tekkenizer)
    return model


@functools.cache
def vocabulary(version: str) -> Vocabulary:
    return of_tekken(tekken(version))


def encode(version: str, text: str) -> list[int]:
    """Returns the tokens of a text in which control tokens of calls and reasoning have names."""
    names = {name: token_id for token_id, name in vocabulary(version).control.items()}
    ids: list[int] = []
    for part in _CONTROL.split(text):
        if part in names:
            ids.append(names[part])
        else:
            ids += plain(version, part)
    return ids


def plain(version: str, text: str) -> list[int]:
    """Returns the tokens of a text that may have the names of control tokens as text."""
    return tekken(version).encode(text, bos=False, eos=False)


def new_ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"call{next(numbers):05}"


def parser(version: str, **options: Any) -> AnswerParser:
    return AnswerParser(vocabulary(version), new_ids(), **options)


def parse(
    version: str,
    steps: Sequence[Sequence[int]],
    reason: Any = "stop",
    **options: Any,
) -> Answer:
    """Returns the answer of an engine that ended by itself after these steps."""
    reading, answer = parser(version, **options), Answer()
    for step in steps:
        answer.add(reading.feed(step))
    answer.add(reading.finish(reason))
    return answer


def read(version: str, text: str, **options: Any) -> Answer:
    """Returns the answer of that text, token by token; control tokens are written by name."""
    return parse(version, [[token_id] for token_id in encode(version, text)], **options)


def cuts(ids: Sequence[int], dice: random.Random) -> list[Sequence[int]]:
    """Cuts tokens into steps at random."""
    steps, begin = [], 0
    while begin < len(ids):
        end = begin + dice.choice((1, 1, 1, 2, 3, 10))
        steps.append(ids[begin:end])
        begin = end
    return steps


def random_ids(version: str, dice: random.Random, length: int) -> Iterator[int]:
    """Yields tokens of which many are control tokens, parts of characters or JSON."""
    words = vocabulary(version)
    structure = [
        token_id
        for token_id in (
            *(words.tool_calls, words.args, words.call_id, words.think, words.end_think),
            *(words.eos, 1),
        )
        if token_id is not None
    ]
    json = [100 + byte for byte in b'[]{}",:\\ nau']
    for _ in range(length):
        match dice.randrange(5):
            case 0:
                yield dice.choice(structure)
            case 1:
                yield dice.randrange(len(words.pieces))
            case 2:
                yield 100 + dice.randrange(0x80, 0x100)
            case _:
                yield dice.choice(json)
