"""Functions of vLLM that are replaced at run time; tests pin the digests of what they rely on."""

import functools
from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.parser.engine import streaming_parser_engine
from vllm.parser.mistral import MistralParser
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from serving.catalogue import LoopGuard
from serving.engine.loop_guard import STOP_REASON, LoopDetector

_KEPT_DROP_INFOS = 8
"""Cache size. A Mistral model needs one entry; a parser with a new configuration for each request
would need ever more."""

_TOOL_CALLS = "[TOOL_CALLS]"


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
def keep_grammars_to_what_needs_them() -> None:
    """Lets text be generated without a grammar where no tool may be called.

    vLLM's Mistral parser makes a grammar for each request, with a matcher compiled in two processes
    and a vocabulary mask for each token. For free text it only excludes control tokens, of which
    one alone does harm: a bias keeps the model from beginning a tool call. Under tokenizer v7 there
    is no grammar, and a call begun all the same is lost.
    """
    adjust = MistralParser.adjust_request

    def adjust_request(parser: Any, request: Any) -> Any:
        tokenizer = parser.model_tokenizer
        if is_free_text(request):
            calls = tokenizer.get_vocab()[_TOOL_CALLS]
            request.logit_bias = {**(request.logit_bias or {}), str(calls): -100.0}
            return request
        if getattr(tokenizer, "supports_grammar", False) and goes_on(request):
            return request
        return adjust(parser, request)

    MistralParser.adjust_request = adjust_request


def is_unrestricted(request: Any) -> bool:
    """Whether a chat completion's text is unconstrained."""
    return (
        isinstance(request, ChatCompletionRequest)
        and request.structured_outputs is None
        and (request.response_format is None or request.response_format.type == "text")
    )


def is_free_text(request: Any) -> bool:
    """Whether nothing restricts a chat completion's answer, and it may call no tool."""
    return is_unrestricted(request) and (not request.tools or request.tool_choice == "none")


def goes_on(request: Any) -> bool:
    """Whether a chat completion continues an answer that has begun as text and may call tools. Its
    grammar requires some text or a call, so the answer could not end where it is."""
    return (
        is_unrestricted(request)
        and request.continue_final_message
        and request.tool_choice in (None, "auto")
    )


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
