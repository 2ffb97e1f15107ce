"""Our changes to vLLM keep its behaviour, and the vLLM code they rely on is unchanged."""

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.parser.engine import streaming_parser_engine
from vllm.parser.engine.incremental_lexer import IncrementalLexer, LexerShape
from vllm.parser.engine.streaming_parser_engine import StreamingParserEngine
from vllm.parser.mistral import MistralParser, mistral_config
from vllm.parser.parser_manager import ParserManager
from vllm.sampling_params import RepetitionDetectionParams, SamplingParams
from vllm.tokenizers.mistral import MistralTokenizer
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer, IncrementalDetokenizer
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from serving.catalogue import LoopGuard
from serving.engine.loop_guard import STOP_REASON
from serving.engine.vllm.arguments import VERSION
from serving.engine.vllm.patches import (
    complete_arguments,
    guard_detokenizers,
    keep_bytes_of_characters,
    keep_drop_info,
    tell_of_truncated_calls,
)
from serving.tiny.spec import TinySpec
from serving.tiny.tokenizer import write_tokenizer

BUILD = streaming_parser_engine._build_drop_info

READ_ONLY = "its result and a LexerShape must depend on its arguments alone and never be changed"
STOPS = "a string from a detokenizer's update must still end the answer and abort the request"
KNOWN = {
    streaming_parser_engine._build_drop_info: (READ_ONLY, "e13a901a28652bfa"),
    StreamingParserEngine.__init__: (READ_ONLY, "9a1018ace5979674"),
    LexerShape: (READ_ONLY, "d45e956324c2f54c"),
    IncrementalLexer.__init__: (READ_ONLY, "e686e96442792b25"),
    mistral_config.__wrapped__: ("it must be made once, not for each request", "917960477bc38329"),
    MistralTokenizer.convert_ids_to_tokens: (
        "pieces may be bytes, as they are where special tokens are left out",
        "e4d5a531f4a1e381",
    ),
    MistralTokenizer.convert_tokens_to_string: ("pieces may be bytes", "ea6e375e7e8507e7"),
    OpenAIServingChat.chat_completion_full_generator: (
        "it must read finish reasons from its second argument alone, and return choices",
        "5d228783d4f0a9ec",
    ),
    MistralParser._legacy_extract_tool_calls: (
        "it must be given the whole answer",
        "421d541a8d7fffcc",
    ),
    AnthropicServingMessages.messages_full_converter: (
        "it must read the first choice's calls, and tell of max_tokens by its finish reason",
        "fa4242db613b5a86",
    ),
    ResponsesRequest.extract_structured_outputs: (
        "nothing else may read the constraints of a request",
        "213b3ffa5229dfb4",
    ),
    MistralParser.adjust_request: (
        "it must do no more than to constrain the answer and to keep special tokens",
        "8de1a730cf05e517",
    ),
    IncrementalDetokenizer.from_new_request: (STOPS, "1d887a3f62554239"),
    BaseIncrementalDetokenizer.update: (STOPS, "ab88e88b47aeb0cc"),
    OutputProcessor.process_outputs: (STOPS, "9e116796002e75f2"),
    AsyncLLM.generate: (
        "every endpoint must generate with it, and nothing else",
        "5bd0ee90459b0e29",
    ),
    GPUModelRunner._bookkeeping_sync: (
        "it must need the generator of an unfinished prefill for nothing but to turn it back",
        "13c3e81003a7e168",
    ),
}
"""The parts of vLLM 0.32 that our changes rely on: what must hold, and the digest of their
source."""


@pytest.mark.parametrize("thing", KNOWN, ids=lambda thing: thing.__qualname__)
def test_vllm_is_as_our_changes_to_it_need_it(thing: Callable[..., Any]) -> None:
    what, known = KNOWN[thing]
    digest = hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:16]
    assert digest == known, (
        f"vLLM {VERSION} changed {thing.__module__}.{thing.__qualname__}, on which"
        f" serving/engine/vllm/ relies. Check that {what}; then its digest here is {digest}"
    )


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns the tokenizers for which vLLM's own function was called; its results are cached."""
    calls: list[Any] = []
    build = streaming_parser_engine._build_drop_info

    def counted(config: Any, tokenizer: Any) -> Any:
        calls.append(tokenizer)
        return build(config, tokenizer)

    monkeypatch.setattr(streaming_parser_engine, "_build_drop_info", counted)
    keep_drop_info.__wrapped__()
    return calls


ANSWERS = [
    "Plain text < with [ brackets ] and {braces}.",
    "<think>\nHm.\n</think>\nAn answer.",
    '[TOOL_CALLS]f[ARGS]{"a": [1, "}"]}[TOOL_CALLS]g[ARGS]{}',
    "Before[TOOL_CALLS]f{}",
    '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]',
    "<s>[INST]dropped[/INST]</s> and <SPECIAL_99> kept",
    "[TOOL_CAL",
]


def parsed(tokenizer: Any, answer: str, step: int) -> list[str]:
    """Returns the deltas of an answer that arrives `step` characters at a time."""
    cls = ParserManager.get_parser("mistral", None, True, "m")
    parser = cls(tokenizer, None)
    request = ChatCompletionRequest(messages=[{"role": "user", "content": "?"}], tools=None)
    deltas = []
    for begin in range(0, len(answer), step):
        text = answer[begin : begin + step]
        last = begin + step >= len(answer)
        delta = parser.parse_delta(
            text, tokenizer.encode(text, add_special_tokens=False), request, [1], finished=last
        )
        if delta is not None:
            for call in delta.tool_calls:
                call.id = None  # random
            deltas.append(delta.model_dump_json())
    return deltas


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_parsed_as_without_what_is_kept(
    tokenizer: Any, answer: str, step: int, request: pytest.FixtureRequest
) -> None:
    before = parsed(tokenizer, answer, step)
    builds = request.getfixturevalue("builds")
    assert [parsed(tokenizer, answer, step) for _ in range(3)] == [before] * 3
    assert len(builds) == 1


def test_what_is_kept_is_what_vllm_builds(tokenizer: Any, builds: list[Any]) -> None:
    config = mistral_config(reasoning_encoding="text")
    kept, again = (streaming_parser_engine._build_drop_info(config, tokenizer) for _ in range(2))
    assert kept is again
    built = BUILD(config, tokenizer)
    assert kept.extra_token_ids == built.extra_token_ids
    for name in LexerShape.__slots__:
        ours, theirs = getattr(kept.lexer_shape, name), getattr(built.lexer_shape, name)
        if name == "literals_by_first":
            ours, theirs = ({c: set(of_c) for c, of_c in d.items()} for d in (ours, theirs))
        elif name == "literal_strings":
            ours, theirs = set(ours), set(theirs)
        elif name == "terminals":
            ours, theirs = (
                {(t.name, t.literal, t.pattern.pattern) for t in ts} for ts in (ours, theirs)
            )
        assert ours == theirs, name


def test_each_tokenizer_and_each_configuration_has_its_own(
    tokenizer: Any, builds: list[Any]
) -> None:
    other = SimpleNamespace(all_special_tokens=["<a>"], all_special_ids=[1])
    configs = [mistral_config(reasoning_encoding=e) for e in ("text", "none")]
    for _ in range(3):
        for config in configs:
            info = streaming_parser_engine._build_drop_info(config, tokenizer)
            assert len(info.extra_token_ids) > 900
            of_other = streaming_parser_engine._build_drop_info(config, other)
            assert list(of_other.extra_token_ids) == [1]
    assert len(builds) == 4


def test_configurations_made_anew_do_not_pile_up(builds: list[Any]) -> None:
    tokenizer = SimpleNamespace(all_special_tokens=["<a>"], all_special_ids=[1])
    for _ in range(100):
        config = mistral_config.__wrapped__(reasoning_encoding="none")
        streaming_parser_engine._build_drop_info(config, tokenizer)
    kept = inspect.getclosurevars(streaming_parser_engine._build_drop_info).nonlocals["kept"]
    assert len(kept) <= 8


GUARD = LoopGuard(max_pattern_tokens=8, min_pattern_tokens=1, min_count=6)


def detokenized(tokenizer: Any, text: str, **params: Any) -> tuple[str, str | None]:
    """Returns an answer's text, token by token, to its end or to a stop, and the reason to stop."""
    request = SimpleNamespace(
        prompt_token_ids=[1], prompt_embeds=None, sampling_params=SamplingParams(**params)
    )
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, request)
    for token_id in tokenizer.encode(text, add_special_tokens=False):
        if stop := detokenizer.update([token_id], False):
            return detokenizer.output_text, stop
    return detokenizer.output_text, None


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    unguarded = IncrementalDetokenizer.__dict__["from_new_request"]
    monkeypatch.setattr(IncrementalDetokenizer, "from_new_request", unguarded)
    make = IncrementalDetokenizer.from_new_request
    guard_detokenizers(GUARD)
    assert IncrementalDetokenizer.from_new_request is not make


LOOP = " ok" * 50


def test_a_loop_ends_like_at_a_stop_string(guarded: None, tokenizer: Any) -> None:
    text, stop = detokenized(tokenizer, LOOP)
    assert stop == STOP_REASON
    assert 6 <= text.count("ok") < 10


def test_other_text_and_stop_strings_are_as_before(guarded: None, tokenizer: Any) -> None:
    text = "Some text, 你好 and 😀, that does not repeat itself."
    assert detokenized(tokenizer, text) == (text, None)
    assert detokenized(tokenizer, "one two three", stop=["two"]) == ("one ", "two")


@pytest.mark.parametrize(
    "params",
    [
        {"ignore_eos": True},
        {"repetition_detection": RepetitionDetectionParams()},
        {"repetition_detection": RepetitionDetectionParams(4, 1, 100)},
    ],
)
def test_a_request_is_not_guarded_that_does_not_want_it(
    guarded: None, tokenizer: Any, params: dict[str, Any]
) -> None:
    assert detokenized(tokenizer, LOOP, **params) == (LOOP, None)


def test_min_tokens_are_let_through_first(guarded: None, tokenizer: Any) -> None:
    text, stop = detokenized(tokenizer, LOOP, min_tokens=30, max_tokens=100)
    assert stop == STOP_REASON
    assert len(tokenizer.encode(text, add_special_tokens=False)) == 30


def test_an_answer_that_ended_by_itself_was_no_loop(guarded: None, tokenizer: Any) -> None:
    request = SimpleNamespace(
        prompt_token_ids=[1], prompt_embeds=None, sampling_params=SamplingParams()
    )
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, request)
    ids = tokenizer.encode(LOOP, add_special_tokens=False)
    assert detokenizer.update([*ids, tokenizer.eos_token_id], True) is None


@pytest.mark.parametrize("skip_special_tokens", [True, False])
@pytest.mark.parametrize("text", ["🎉東京", "Café 👩‍👩‍👧 👍🏽!", "नमस्ते สวัสดี", "plain"])
def test_characters_of_several_tokens_come_through(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Any, text: str, skip_special_tokens: bool
) -> None:
    monkeypatch.setattr(
        MistralTokenizer, "convert_ids_to_tokens", MistralTokenizer.convert_ids_to_tokens
    )
    keep_bytes_of_characters.__wrapped__()
    assert detokenized(tokenizer, text, skip_special_tokens=skip_special_tokens)[0] == text


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ('{"city": "Dallas", "unit": "fahr', {"city": "Dallas"}),
        ('{"city": "Dallas"}', {"city": "Dallas"}),
        ('{"ci', {}),
        ("", {}),
        ("no JSON", {}),
        ("[1, 2", {}),
    ],
)
def test_the_complete_arguments_of_a_truncated_call(text: str, members: dict[str, Any]) -> None:
    assert json.loads(complete_arguments(text)) == members


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_truncated_call_of_v7_is_a_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, choice: str
) -> None:
    write_tokenizer(TinySpec(tokenizer_version="v7"), tmp_path)
    tokenizer = MistralTokenizer.from_pretrained(str(tmp_path))
    for owner, name in (
        (MistralParser, "_legacy_extract_tool_calls"),
        (OpenAIServingChat, "chat_completion_full_generator"),
        (AnthropicServingMessages, "messages_full_converter"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    tell_of_truncated_calls.__wrapped__()
    request = SimpleNamespace(tool_choice=choice, tools=[])
    begun = 'Yes.[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {"b'
    for text, known in (
        (begun, [("f", '{"a": 1}'), ("g", '{"b')]),
        (begun + '": 2}}]', [("f", '{"a": 1}'), ("g", '{"b": 2}')]),
    ):
        found = MistralParser(tokenizer).extract_tool_calls_from_content(text, request)
        assert [(c.function.name, c.function.arguments) for c in found.tool_calls] == known
        assert found.tools_called and found.content == "Yes."
