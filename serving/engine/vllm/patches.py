"""Functions of vLLM that are replaced at run time; tests pin the digests of what they rely on."""

import functools
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pydantic_core
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages
from vllm.entrypoints.generate.base.protocol import ExtractedToolCallInformation, FunctionCall
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.parser.engine import streaming_parser_engine
from vllm.parser.mistral import MistralParser, MistralToolCall
from vllm.tokenizers.mistral import MistralTokenizer
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from serving.catalogue import LoopGuard
from serving.engine.loop_guard import STOP_REASON, LoopDetector
from serving.mistral.grammar import truncated_v7_calls

_KEPT_DROP_INFOS = 8
"""Cache size. A Mistral model needs one entry; a parser with a new configuration for each request
would need ever more."""

_REPLACEMENT = "\ufffd"


@functools.cache
def keep_drop_info() -> None:
    """Caches what vLLM's parsers know of a tokenizer's special tokens across requests.

    vLLM creates a parser two or three times per request, and each compiles a regular expression for
    each of the tokenizer's 1,000 special tokens, on the event loop. The result depends on the
    parser's configuration and the tokenizer alone, and is only read.
    """
    build = streaming_parser_engine._build_drop_info
    kept: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def kept_drop_info(config: Any, tokenizer: Any) -> Any:
        # Keyed by identity, as neither is hashable by value; both are kept alive, so no id is
        # reused.
        key = id(config), id(tokenizer)
        if key not in kept:
            if len(kept) == _KEPT_DROP_INFOS:
                kept.clear()
            kept[key] = config, tokenizer, build(config, tokenizer)
        return kept[key][-1]

    streaming_parser_engine._build_drop_info = kept_drop_info


@functools.cache
def keep_bytes_of_characters() -> None:
    """Keeps characters of several tokens, such as most emoji, where special tokens are kept too: in
    answers of the Responses API, and of chats with tools under tokenizer v7. vLLM decodes each of
    their tokens by itself there, to replacement characters that it takes for an unfinished end."""
    convert = MistralTokenizer.convert_ids_to_tokens

    def convert_ids_to_tokens(
        tokenizer: Any, ids: Sequence[int], skip_special_tokens: bool = False
    ) -> list[Any]:
        pieces: list[Any] = convert(tokenizer, ids, skip_special_tokens)
        if skip_special_tokens or not tokenizer.is_tekken:
            return pieces
        of_bytes = tokenizer.tokenizer.id_to_byte_piece
        return [
            of_bytes(token_id, SpecialTokenPolicy.KEEP) if _REPLACEMENT in piece else piece
            for token_id, piece in zip(ids, pieces, strict=True)
        ]

    MistralTokenizer.convert_ids_to_tokens = convert_ids_to_tokens


@functools.cache
def tell_of_truncated_calls() -> None:
    """Gives an answer that `max_tokens` cuts off during a call the finish reason "length" also when
    it is not streamed, where vLLM has "tool_calls". Under v7 such a call stays a call, where vLLM
    makes it text. In /v1/messages it has the arguments that are complete, where vLLM fails because
    they are no JSON."""
    find_v7_calls = MistralParser._legacy_extract_tool_calls
    answer_chat = OpenAIServingChat.chat_completion_full_generator
    to_message = AnthropicServingMessages.messages_full_converter

    async def chat_completion_full_generator(
        serving: Any, request: Any, outputs: AsyncIterator[Any], *args: Any, **kwargs: Any
    ) -> Any:
        truncated = set()

        async def noted() -> AsyncIterator[Any]:
            async for output in outputs:
                for choice in output.outputs:
                    if choice.finish_reason == "length":
                        truncated.add(choice.index)
                yield output

        answer = await answer_chat(serving, request, noted(), *args, **kwargs)
        for choice in getattr(answer, "choices", ()):  # none: an error
            if choice.index in truncated:
                choice.finish_reason = "length"
        return answer

    def legacy_extract_tool_calls(parser: Any, output: str, request: Any) -> Any:
        content, _, array = output.partition(parser.bot_token)
        calls = [] if is_json(array) else truncated_v7_calls(array)
        if not calls or getattr(request, "tool_choice", None) == "none":
            return find_v7_calls(parser, output, request)
        return ExtractedToolCallInformation(
            tools_called=True,
            tool_calls=[
                MistralToolCall(function=FunctionCall(name=name, arguments=arguments))
                for name, arguments in calls
            ],
            content=content or None,
        )

    def messages_full_converter(serving: Any, answer: Any) -> Any:
        choice = answer.choices[0]
        if choice.finish_reason == "length":
            for call in choice.message.tool_calls:
                call.function.arguments = complete_arguments(call.function.arguments)
        return to_message(serving, answer)

    MistralParser._legacy_extract_tool_calls = legacy_extract_tool_calls
    OpenAIServingChat.chat_completion_full_generator = chat_completion_full_generator
    AnthropicServingMessages.messages_full_converter = messages_full_converter


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def complete_arguments(text: str) -> str:
    """Returns a JSON object of the members that are complete in the beginning of one."""
    try:
        members = pydantic_core.from_json(text, allow_partial=True)
    except ValueError:
        members = None
    return json.dumps(members if type(members) is dict else {})


def guard_detokenizers(guard: LoopGuard) -> None:
    """Lets every answer of this process end as at a stop string when it loops.

    vLLM's own `repetition_detection` has one count for patterns of all lengths, and would cut valid
    tables and matrices or miss loops. Requests with `repetition_detection` of their own are not
    guarded (a `max_pattern_size` of 0 turns both off), nor are those with `ignore_eos`, which want
    a fixed length.
    """
    make = IncrementalDetokenizer.from_new_request

    def make_guarded(tokenizer: Any, request: Any) -> Any:
        detokenizer, params = make(tokenizer, request), request.sampling_params
        if tokenizer is None or params.ignore_eos or params.repetition_detection is not None:
            return detokenizer
        detector = LoopDetector(guard, lambda token_id: tokenizer.decode([token_id]))
        unguarded = detokenizer.update

        def update(new_token_ids: Sequence[int], stop_terminated: bool) -> str | None:
            stop_string: str | None = unguarded(new_token_ids, stop_terminated)
            loops = detector.add(new_token_ids) and not stop_terminated
            if loops and detokenizer.num_output_tokens() >= params.min_tokens:
                return stop_string or STOP_REASON
            return stop_string

        detokenizer.update = update
        return detokenizer

    IncrementalDetokenizer.from_new_request = staticmethod(make_guarded)
