"""Which requests have a grammar, and which, in place of vLLM's choice for Mistral's tokenizers."""

import functools
from collections.abc import Mapping
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.parser.mistral import MistralParser
from vllm.sampling_params import StructuredOutputsParams

from serving.mistral.grammar import CallableTool, CallTokens, answer_grammar

_TOOL_CALLS = "[TOOL_CALLS]"
_ARGS = "[ARGS]"
_THINK = "[THINK]"
_NO_SCHEMA: dict[str, Any] = {"type": "object"}


class _AnswerGrammar(StructuredOutputsParams):  # type: ignore[misc]  # vLLM has no types
    """A grammar of our own. A response repeats the request's `text.format`, which therefore stays
    in the request, and vLLM allows no other constraint beside it."""


@functools.cache
def constrain_answers() -> None:
    """Replaces how vLLM's Mistral parser constrains answers.

    - Free text has no grammar. vLLM makes one for each request, with a matcher compiled in two
      processes and a mask for each token, which excludes control tokens. Of those one alone does
      harm: a bias keeps the model from beginning a tool call.
    - Calls and JSON have the grammar of `answer_grammar`. vLLM's allows text before a required
      call, calls of any name, text that breaks the schema beside tools, and white space without
      end. Under v7 vLLM has one only for required calls, and in the Responses API for none.
    """
    adjust = MistralParser.adjust_request
    extract = ResponsesRequest.extract_structured_outputs

    def extract_structured_outputs(request: Any) -> Any:
        own = request.structured_outputs
        if isinstance(own, _AnswerGrammar):
            return StructuredOutputsParams(grammar=own.grammar)
        return extract(request)

    def adjust_request(parser: Any, request: Any) -> Any:
        tokenizer = parser.model_tokenizer
        if is_free_text(request):
            calls = tokenizer.get_vocab()[_TOOL_CALLS]
            request.logit_bias = {**(request.logit_bias or {}), str(calls): -100.0}
            return request
        if goes_on(request):
            return adjust(parser, request) if parser._is_pre_v11 else request
        if (grammar := grammar_of(request, tokenizer.get_vocab(), parser._is_pre_v11)) is None:
            return adjust(parser, request)
        if isinstance(request, ChatCompletionRequest):
            request.response_format = None
            request._grammar_from_parser = not parser._is_pre_v11
        if request.tools and request.tool_choice != "none":
            request.skip_special_tokens = False  # The parser finds calls by them.
        request.structured_outputs = _AnswerGrammar(grammar=grammar)
        return request

    ResponsesRequest.extract_structured_outputs = extract_structured_outputs
    MistralParser.adjust_request = adjust_request


def grammar_of(request: Any, vocabulary: Mapping[str, int], is_v7: bool) -> str | None:
    """Returns the grammar of our own for a request's answer; None if vLLM decides: for the formats
    that only vLLM has, models with thinking tokens, and requests that it refuses."""
    if _THINK in vocabulary or not isinstance(request, ChatCompletionRequest | ResponsesRequest):
        return None
    if isinstance(request, ResponsesRequest):
        if any(tool.type != "function" for tool in request.tools):
            return None
        functions, form = list(request.tools), request.text and request.text.format
    else:
        functions, form = [tool.function for tool in request.tools or ()], request.response_format
    if form is not None and form.type not in ("text", "json_object", "json_schema"):
        return None
    own = request.structured_outputs
    if own is not None and own.json_object is None and not isinstance(own.json, dict):
        return None
    schema = own.json or _NO_SCHEMA if own is not None else _schema(form)
    choice = request.tool_choice
    if choice == "none":
        functions = []
    elif choice not in (None, "auto", "required"):
        name = choice.name if isinstance(request, ResponsesRequest) else choice.function.name
        functions = [function for function in functions if function.name == name]
    required = choice not in (None, "auto", "none")
    if not functions and (required or schema is None):
        return None
    return answer_grammar(
        [
            CallableTool(function.name, function.parameters, function.strict is True)
            for function in functions
        ],
        "required" if required else "auto",
        request.parallel_tool_calls is not False,
        schema,
        CallTokens(vocabulary[_TOOL_CALLS], None if is_v7 else vocabulary[_ARGS]),
    )


def _schema(form: Any) -> dict[str, Any] | None:
    """The JSON schema of the text by `response_format` or `text.format`; None if it is free."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return _NO_SCHEMA
    given = form.json_schema.json_schema if hasattr(form, "json_schema") else form.schema_
    return given or _NO_SCHEMA


def is_free_text(request: Any) -> bool:
    """Whether nothing restricts an answer, and it may call no tool."""
    if not isinstance(request, ChatCompletionRequest | ResponsesRequest):
        return False
    return is_unrestricted(request) and (not request.tools or request.tool_choice == "none")


def is_unrestricted(request: Any) -> bool:
    """Whether the text of an answer is unconstrained."""
    if isinstance(request, ResponsesRequest):
        form = request.text and request.text.format
    else:
        form = request.response_format
    return request.structured_outputs is None and (form is None or form.type == "text")


def goes_on(request: Any) -> bool:
    """Whether a chat completion continues an answer that has begun as text and may call tools. Its
    grammar requires some text or a call, so the answer could not end where it is."""
    return (
        isinstance(request, ChatCompletionRequest)
        and is_unrestricted(request)
        and request.continue_final_message
        and request.tool_choice in (None, "auto")
    )
