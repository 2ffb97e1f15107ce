"""Grammars are compiled where one that never ends harms nobody."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
from llguidance import LLMatcher

from serving.engine.grammar_check import GrammarCheck, GrammarError
from serving.engine.grammar_compiler import Tokens
from tests.support.hostile_schemas import HOSTILE_SCHEMAS, NEVER_COMPILED


def grammar(schema: Any) -> str:
    return LLMatcher.grammar_from_json_schema(json.dumps(schema))


TOKENS = Tokens(["<unk>", "<s>", "</s>", "[INST]"], eos=2, count=1000)
GOOD = grammar({"type": "object", "properties": {"a": {"type": "integer"}}})


@pytest.fixture
async def grammars() -> AsyncIterator[GrammarCheck]:
    check = GrammarCheck(TOKENS)
    yield check
    await check.close()


def compilers() -> list[int]:
    return [child.pid for child in psutil.Process().children()]


async def test_a_grammar_that_compiles_is_accepted(grammars: GrammarCheck) -> None:
    for _ in range(2):
        await grammars.check(GOOD)


async def test_the_reason_against_a_grammar_is_told_each_time(grammars: GrammarCheck) -> None:
    for _ in range(2):
        with pytest.raises(GrammarError, match="objekt"):
            await grammars.check(grammar({"type": "objekt"}))
    await grammars.check(GOOD)


@pytest.mark.parametrize("lark", ["start: <INST>", "start: <[0-999]>", "start: </s>", 'start: ""'])
async def test_a_grammar_may_name_the_models_tokens(grammars: GrammarCheck, lark: str) -> None:
    await grammars.check(LLMatcher.grammar_from_lark(lark))


@pytest.mark.parametrize(
    ("lark", "reason"),
    [
        ('start: <nope> "a"', 'unknown special token: "<nope>"$'),
        ('start: "a" | <[1000]>', "Token range end too large"),
        (r"start: /[^\s\S]/", "nothing matches it"),
        (r"start: /a[^\s\S]/", "nothing matches it"),
        ("start: start", "nothing matches it"),
    ],
)
async def test_a_grammar_that_no_answer_can_follow_is_refused(
    grammars: GrammarCheck, lark: str, reason: str
) -> None:
    with pytest.raises(GrammarError, match=reason):
        await grammars.check(LLMatcher.grammar_from_lark(lark))


@pytest.mark.parametrize("name", HOSTILE_SCHEMAS)
async def test_a_grammar_that_takes_too_long_is_refused(grammars: GrammarCheck, name: str) -> None:
    with pytest.raises(GrammarError, match="too long"):
        await grammars.check(grammar(HOSTILE_SCHEMAS[name]))
    await grammars.check(GOOD)


async def test_a_grammar_nested_too_deeply_is_refused(grammars: GrammarCheck) -> None:
    nested = "(" * 200_000 + '"a"' + ")" * 200_000
    with pytest.raises(GrammarError):
        await grammars.check(json.dumps({"grammars": [{"lark_grammar": f"start: {nested}"}]}))
    await grammars.check(GOOD)


async def test_others_are_compiled_beside_one_that_takes_long(grammars: GrammarCheck) -> None:
    async with asyncio.TaskGroup() as both:  # which starts both processes
        both.create_task(grammars.check(GOOD))
        both.create_task(grammars.check(grammar({"type": "string"})))
    hostile = asyncio.create_task(grammars.check(grammar(NEVER_COMPILED)))
    await grammars.check(grammar({"type": "boolean"}))
    assert not hostile.done()
    with pytest.raises(GrammarError):
        await hostile


async def test_a_process_that_was_killed_is_no_verdict(grammars: GrammarCheck) -> None:
    await grammars.check(GOOD)
    (pid,) = compilers()
    os.kill(pid, signal.SIGKILL)
    other = grammar({"type": "string"})
    with pytest.raises(OSError, match="ended"):
        await grammars.check(other)
    await grammars.check(other)


async def test_closing_ends_the_processes() -> None:
    grammars = GrammarCheck(TOKENS)
    await grammars.check(GOOD)
    (pid,) = compilers()
    await grammars.close()
    assert pid not in compilers()
