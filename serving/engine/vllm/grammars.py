"""Which requests have a grammar, and which, in place of vLLM's choice for Mistral's tokenizers."""

import functools
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


@functools.cache
def constrain_answers() -> None:
    """Replaces how vLLM's Mistral parser constrains answers.

    - Free text has no grammar. vLLM makes one for each request, with a matcher compiled in two
      processes and a mask for each token, which excludes control tokens. Of those one alone does
      harm: a bias keeps the model from beginning a tool call.
    - From tokenizer v11 on, calls and JSON have the grammar of `answer_grammar`. vLLM's allows text
      before a required call, calls of any name, text that breaks the schema beside tools, and white
      space without end; with the Responses API a schema rules out all calls.
    """
    adjust = MistralParser.adjust_request

    def adjust_request(parser: Any, request: Any) -> Any:
        tokenizer = parser.model_tokenizer
        if is_free_text(request):
            calls = tokenizer.get_vocab()[_TOOL_CALLS]
            request.logit_bias = {**(request.logit_bias or {}), str(calls): -100.0}
            return request
        if not getattr(tokenizer, "supports_grammar", False):
            return adjust(parser, request)
        if goes_on(request):
            return request
        if (grammar := grammar_of(request, tokenizer.get_vocab())) is None:
            return adjust(parser, request)
        if isinstance(request, ResponsesRequest):
            request.text = request.text.model_copy(update={"format": None})
            request.skip_special_tokens = False  # the parser finds calls by them
        else:
            request.response_format = None
            request._grammar_from_parser = True
        request.structured_outputs = StructuredOutputsParams(grammar=grammar)
        return request

    MistralParser.adjust_request = adjust_request


def grammar_of(request: Any, vocabulary: dict[str, int]) -> str | None:
    """Returns the grammar of our own for a request's answer; None if vLLM decides."""
    if _THINK in vocabulary:
        return None
    tokens = CallTokens(vocabulary[_TOOL_CALLS], vocabulary[_ARGS])
    if isinstance(request, ResponsesRequest):
        tools = [tool for tool in request.tools if tool.type == "function"]
        schema = _responses_schema(request)
        if schema is None or request.tool_choice != "auto" or not tools:
            return None
        if len(tools) < len(request.tools):
            return None
        parallel = request.parallel_tool_calls is not False
        return answer_grammar([_callable(tool) for tool in tools], "auto", parallel, schema, tokens)
    if not isinstance(request, ChatCompletionRequest):
        return None
    form = request.structured_outputs
    if form is not None and form.json_object is None and not isinstance(form.json, dict):
        return None
    if request.response_format is not None and request.response_format.type == "structural_tag":
        return None
    schema = _chat_schema(request)
    tools = request.tools or [] if request.tool_choice != "none" else []
    functions = [tool.function for tool in tools]
    choice = request.tool_choice
    if choice not in (None, "auto", "required", "none"):
        functions = [one for one in functions if one.name == choice.function.name]
        choice = "required"
    if not functions and (choice == "required" or schema is None):
        return None  # vLLM says what is wrong.
    return answer_grammar(
        [_callable(function) for function in functions],
        "required" if choice == "required" else "auto",
        request.parallel_tool_calls is not False,
        schema,
        tokens,
    )


def _callable(function: Any) -> CallableTool:
    return CallableTool(function.name, function.parameters, function.strict is True)


def _chat_schema(request: ChatCompletionRequest) -> dict[str, Any] | None:
    """The JSON schema of a chat completion's text; None if it is free."""
    if (form := request.structured_outputs) is not None:
        return form.json or _NO_SCHEMA
    if request.response_format is None or request.response_format.type == "text":
        return None
    given = request.response_format.json_schema
    return _NO_SCHEMA if given is None or not given.json_schema else given.json_schema


def _responses_schema(request: ResponsesRequest) -> dict[str, Any] | None:
    if request.text is None or request.text.format is None or request.structured_outputs:
        return None
    match request.text.format.type:
        case "json_object":
            return _NO_SCHEMA
        case "json_schema":
            return request.text.format.schema_ or _NO_SCHEMA
    return None


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
