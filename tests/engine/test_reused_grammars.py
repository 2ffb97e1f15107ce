"""Grammars that one answer after another uses."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from llguidance import LLMatcher
from llguidance.torch import allocate_token_bitmask
from vllm.v1.structured_output.backend_guidance import GuidanceGrammar

from serving.engine.vllm.reused_grammars import ReusedGrammars
from tests.engine.fake_llm import ids, mistral_tokenizer

USES = 16


@dataclass(eq=False)
class Matcher:
    """Stands in for llguidance's LLMatcher."""

    compiled: int
    error: str = ""

    def deep_copy(self) -> "Matcher":
        return Matcher(self.compiled)

    def get_error(self) -> str:
        return self.error


@dataclass
class Grammar:
    ll_matcher: Matcher
    ll_tokenizer: None = None
    vocab_size: int = 0


@dataclass
class Compiler:
    """Stands in for vLLM's `StructuredOutputManager._create_grammar`."""

    cpu_s: float = 0.0
    refuses: bool = False
    made: list[str] = field(default_factory=list)

    def __call__(self, request: Any) -> Any:
        end_s = time.thread_time() + self.cpu_s
        while time.thread_time() < end_s:
            pass
        self.made.append(request.structured_output_request.structured_output_key[1])
        if self.refuses:
            raise ValueError("no grammar")
        return Grammar(Matcher(len(self.made)))


def request(grammar: str, salt: str | None = None) -> Any:
    key = "GRAMMAR", grammar
    structured = SimpleNamespace(structured_output_key=key)
    return SimpleNamespace(cache_salt=salt, structured_output_request=structured)


@pytest.fixture
def grammars() -> Iterator[ReusedGrammars]:
    with ReusedGrammars(threads=2) as grammars:
        yield grammars


def test_a_request_gets_the_grammar_that_another_has_left(grammars: ReusedGrammars) -> None:
    compiler = Compiler()
    first = grammars.submit(compiler, request("a")).result(5)
    used = first.ll_matcher
    del first
    second = grammars.submit(compiler, request("a"))
    assert second.done()
    assert second.result().ll_matcher is not used
    assert compiler.made == ["a"]


def test_a_grammar_is_in_use_by_one_answer_at_a_time(grammars: ReusedGrammars) -> None:
    compiler = Compiler()
    held = [grammars.submit(compiler, request("a")).result(5) for _ in range(3)]
    assert len({one.ll_matcher.compiled for one in held}) == 3
    held.clear()
    held = [grammars.submit(compiler, request("a")).result(5) for _ in range(4)]
    assert len({one.ll_matcher.compiled for one in held}) == 4
    assert compiler.made == ["a"] * 4


def test_salts_and_grammars_are_told_apart(grammars: ReusedGrammars) -> None:
    compiler = Compiler()
    others = [request("a", salt="two"), request("a"), request("b", salt="one")]
    for one in (request("a", salt="one"), *others, *others):
        grammars.submit(compiler, one).result(5)
    assert compiler.made == ["a", "a", "a", "b"]


def test_a_grammar_that_failed_is_compiled_again(grammars: ReusedGrammars) -> None:
    compiler = Compiler()
    grammars.submit(compiler, request("a")).result(5).ll_matcher.error = "too many states"
    grammars.submit(compiler, request("a")).result(5)
    assert compiler.made == ["a", "a"]


def test_what_does_not_compile_fails_each_time(grammars: ReusedGrammars) -> None:
    compiler = Compiler(refuses=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="no grammar"):
            grammars.submit(compiler, request("a")).result(5)


def test_a_grammar_serves_so_many_answers(grammars: ReusedGrammars) -> None:
    compiler = Compiler()
    for _ in range(USES):
        grammars.submit(compiler, request("a")).result(5)
    assert compiler.made == ["a"]
    grammars.submit(compiler, request("a")).result(5)
    assert compiler.made == ["a", "a"]


def test_what_is_kept_is_bounded_by_what_it_took_to_compile() -> None:
    compiler = Compiler(cpu_s=0.02)
    with ReusedGrammars(threads=1, kept_s=0.05) as grammars:
        for name in "abcb":
            grammars.submit(compiler, request(name)).result(5)
        assert compiler.made == ["a", "b", "c"]
        for name in "bca":
            grammars.submit(compiler, request(name)).result(5)
        assert compiler.made == ["a", "b", "c", "a"]


def test_a_reused_grammar_begins_anew(grammars: ReusedGrammars) -> None:
    tokenizer = mistral_tokenizer().llg_tokenizer

    def compiled(request: Any) -> GuidanceGrammar:
        matcher = LLMatcher(tokenizer, 'start: "Hello" | "Good" " bye"')
        return GuidanceGrammar(matcher, tokenizer, tokenizer.vocab_size)

    def allowed(grammar: GuidanceGrammar) -> list[int]:
        bitmask = allocate_token_bitmask(1, tokenizer.vocab_size)
        grammar.fill_bitmask(bitmask, 0)
        return list(bitmask[0].tolist())

    first = grammars.submit(compiled, request("a")).result(5)
    at_the_start = allowed(first)
    assert first.accept_tokens("1", [*ids("Hello"), tokenizer.eos_token])
    assert first.is_terminated() and allowed(first) != at_the_start
    del first
    second = grammars.submit(compiled, request("a")).result(5)
    assert not second.is_terminated()
    assert allowed(second) == at_the_start
    assert second.accept_tokens("2", ids("Good bye"))


def test_an_answer_that_cannot_go_on_fails(grammars: ReusedGrammars) -> None:
    tokenizer = mistral_tokenizer().llg_tokenizer

    def compiled(request: Any) -> GuidanceGrammar:
        lark = 'start: "[1" | "[1" ", " KEY\nKEY: /[ab]/ & ~/[a-c]/\n'
        return GuidanceGrammar(LLMatcher(tokenizer, lark), tokenizer, tokenizer.vocab_size)

    for answer, whole in (("[1", True), ("[1, ", False)):
        grammar = grammars.submit(compiled, request("a")).result(5)
        for token_id in ids(answer):
            grammar.fill_bitmask(allocate_token_bitmask(1, tokenizer.vocab_size), 0)
            assert grammar.accept_tokens("1", [token_id])
        grammar.fill_bitmask(allocate_token_bitmask(1, tokenizer.vocab_size), 0)
        assert grammar.accept_tokens("1", [tokenizer.eos_token]) is whole
