"""Grammars that are compiled before a request asks for them."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine.vllm.prepared_grammars import PreparedGrammars
from tests.support.waiting import eventually


class Compiler:
    """Stands in for vLLM's `StructuredOutputManager._create_grammar`."""

    def __init__(self, cpu_s: float = 0) -> None:
        self.made: list[str] = []
        self.refuses = False
        self._cpu_s = cpu_s

    def __call__(self, request: Any) -> Any:
        end_s = time.thread_time() + self._cpu_s
        while time.thread_time() < end_s:
            pass
        self.made.append(request.structured_output_request.structured_output_key[1])
        if self.refuses:
            raise ValueError("no grammar")
        return SimpleNamespace()


def request(grammar: str, salt: str | None = None) -> Any:
    key = "GRAMMAR", grammar
    structured = SimpleNamespace(structured_output_key=key)
    return SimpleNamespace(cache_salt=salt, structured_output_request=structured)


@pytest.fixture
def grammars() -> Iterator[PreparedGrammars]:
    with PreparedGrammars(threads=2) as grammars:
        yield grammars


async def answer(grammars: PreparedGrammars, compiler: Compiler, asked: Any) -> Any:
    """Returns a request's grammar after the step of its first token, and when all is compiled."""
    given = grammars.submit(compiler, asked)
    await eventually(given.done)
    made = len(compiler.made)
    grammars.prepare()
    if given.exception() is None:
        await eventually(lambda: len(compiler.made) == made + 1)
    return given


async def test_the_next_request_finds_its_grammar_ready(grammars: PreparedGrammars) -> None:
    compiler = Compiler()
    first = await answer(grammars, compiler, request("a"))
    assert compiler.made == ["a", "a"]
    second = grammars.submit(compiler, request("a"))
    assert second.done()
    assert second.result() is not first.result()


def test_nothing_is_compiled_beforehand_until_a_step_has_ended() -> None:
    compiler = Compiler()
    with PreparedGrammars(threads=1) as grammars:
        grammars.submit(compiler, request("a"))
        grammars.submit(compiler, request("b"))
    assert compiler.made == ["a", "b"]


async def test_many_at_once_leave_one_for_the_next(grammars: PreparedGrammars) -> None:
    compiler = Compiler()
    given = [grammars.submit(compiler, request("a")) for _ in range(5)]
    grammars.prepare()
    await eventually(lambda: all(one.done() for one in given) and len(compiler.made) == 6)
    assert len({id(one.result()) for one in given}) == 5
    assert grammars.submit(compiler, request("a")).done()
    assert len(compiler.made) == 6


async def test_salts_and_grammars_are_told_apart(grammars: PreparedGrammars) -> None:
    compiler = Compiler()
    await answer(grammars, compiler, request("a", salt="one"))
    for other in (request("a", salt="two"), request("a"), request("b", salt="one")):
        made = len(compiler.made)
        await eventually(grammars.submit(compiler, other).done)
        assert len(compiler.made) == made + 1
    assert grammars.submit(compiler, request("a", salt="one")).done()


async def test_a_grammar_that_does_not_compile_is_not_tried_again(
    grammars: PreparedGrammars,
) -> None:
    compiler = Compiler()
    compiler.refuses = True
    given = await answer(grammars, compiler, request("a"))
    assert isinstance(given.exception(), ValueError)
    grammars.shutdown()
    assert compiler.made == ["a"]


async def test_what_is_kept_is_bounded_by_what_it_took_to_compile() -> None:
    compiler = Compiler(cpu_s=0.02)
    with PreparedGrammars(threads=1, kept_s=0.05) as grammars:
        for name in "abc":
            await answer(grammars, compiler, request(name))
        made = len(compiler.made)
        for name in "cba":
            await eventually(grammars.submit(compiler, request(name)).done)
        assert compiler.made[made:] == ["a"]


async def test_after_the_shutdown_nothing_is_compiled() -> None:
    compiler = Compiler()
    grammars = PreparedGrammars(threads=1)
    await eventually(grammars.submit(compiler, request("a")).done)
    grammars.shutdown()
    grammars.prepare()
    assert compiler.made == ["a"]
