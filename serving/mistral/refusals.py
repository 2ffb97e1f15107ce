"""Rejects what no engine here can do, where vLLM would drop it silently or answer with an error
that does not help. What changes no answer (`metadata`, `user`, `store`, …) passes."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from serving.mistral.draft import Draft, objects_in
from serving.mistral.rules import InvalidRequest

Advice = Mapping[str, str]
"""What to do instead, by the field that is not supported."""

_STRUCTURED = "send response_format or structured_outputs instead"
_GUIDED: Advice = dict.fromkeys(
    ("guided_json", "guided_regex", "guided_choice", "guided_grammar"), _STRUCTURED
)
OTHER_ENGINES: Advice = dict.fromkeys(("regex", "ebnf", "grammar", "json_schema"), _STRUCTURED)
"""Constraints of SGLang's and llama.cpp's own, refused where neither runs the model."""

_FUNCTIONS: Advice = {
    "functions": "send tools instead",
    "function_call": "send tool_choice instead",
}
_IMAGE_PROCESSING: Advice = dict.fromkeys(
    ("mm_processor_kwargs", "media_io_kwargs"), "images are processed as the model wants it"
)
_VLLMS: Advice = {
    **_GUIDED,
    "use_beam_search": "send n, and choose among the answers",
    "logprob_token_ids": "send the number of the most probable tokens to tell of instead "
    "(logprobs, in a chat top_logprobs)",
    "kv_transfer_params": "engines share no caches by request: leave it out",
    "ec_transfer_params": "engines share no caches by request: leave it out",
}
_NOT_RUN = "this service does not run"
_UNMODERATED = "this service moderates nothing: leave it out, and check texts before and after"
CHAT: Advice = {
    **_VLLMS,
    "moderation": _UNMODERATED,
    "guardrails": _UNMODERATED,  # Mistral's own
    **_FUNCTIONS,
    "audio": "this model answers with text",
    **_IMAGE_PROCESSING,
    "modalities": 'this model answers with text: leave it out, or send ["text"]',
    "web_search_options": "this service runs no tools itself: leave it out",
}
COMPLETIONS: Advice = {
    **_VLLMS,
    **dict.fromkeys(("tools", *_FUNCTIONS), "send a chat instead"),
    "prompt_embeds": "send a text or token ids as prompt",
}
RESPONSES: Advice = {
    **dict.fromkeys(("response_format", *_GUIDED), "send text.format instead"),
    **_FUNCTIONS,
    **_IMAGE_PROCESSING,
    "image": "images are processed as the model wants it",
    "moderation": _UNMODERATED,
    "conversation": "this service stores none: send previous_response_id, or the earlier turns in "
    "input",
    "prompt": "this service stores no prompts: send instructions and input",
}
MESSAGES: Advice = {
    **dict.fromkeys(
        ("response_format", "structured_outputs", *_GUIDED), "send output_config.format instead"
    ),
    **_FUNCTIONS,
    "mcp_servers": "this service calls no servers: send tools, and run them in the client",
    "container": "this service runs no code: leave it out",
    "thread": "this service stores no conversations: leave it out, and send all turns in messages",
    "inference_geo": "this service chooses no region: leave it out",
}
COMPACTION: Advice = {
    "compaction": "this service writes no compaction blocks: leave it out, and ask for a summary "
    "in a message"
}
"""Refused where it asks for an answer: Anthropic's own count of tokens ignores it."""

_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    **dict.fromkeys(OTHER_ENGINES, ("", {})),
    "image": ({}, {"context_compression": "auto"}, {"context_compression": "disabled"}),
    "inference_geo": ("global",),
}
"""Values that ask for what is done anyway, besides false and an empty list."""

_INTEGERS = (
    "seed",
    "top_k",
    "n",
    "priority",
    "min_tokens",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "truncate_prompt_tokens",
    "stop_token_ids",
    "allowed_token_ids",
    "logprob_token_ids",
    "logit_bias",
    "repetition_detection",
)
"""Fields that are integers or have some in them, each of which may be a string."""
_LONG = re.compile(r"-?[0-9]{19,}").fullmatch
"""Matches integers that may take more than 64 bits."""

_SAMPLING = (
    "temperature",
    "top_p",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
)


def refuse(fields: Advice) -> Callable[[Draft], None]:
    """Returns the rule that rejects those fields unless their value asks for nothing."""

    def rule(draft: Draft) -> None:
        for name in fields:
            value = draft.fields.get(name, False)
            if value is not False and value != [] and value not in _HARMLESS.get(name, ()):
                raise _unsupported(f"{name} is not supported: {fields[name]}.", name)

    return rule


def refuse_tools_except(*supported: str) -> Callable[[Draft], None]:
    """Returns the rule that rejects tools of any other type, which only their own service can
    run."""

    def rule(draft: Draft) -> None:
        for index, tool in enumerate(objects_in(draft.fields.get("tools"))):
            kind = tool.get("type")
            inner = objects_in(tool.get("tools")) if kind == "namespace" else ()
            for one in (kind, *(tool.get("type") for tool in inner)):
                if type(one) is str and one not in supported:
                    # The client runs custom tools, whichever API takes them.
                    by = "this model's server does not know" if one == "custom" else _NOT_RUN
                    raise _unsupported(
                        f'tools[{index}] has the type "{one[:64]}", which {by}. Leave it out, or '
                        "send a tool of the type "
                        f'"{supported[0]}" and run it in the client.',
                        "tools",
                    )

    return rule


def refuse_hosted_choice(draft: Draft) -> None:
    """Rejects the choice of a tool that only OpenAI's own service runs."""
    choice = draft.fields.get("tool_choice")
    if type(choice) is dict and choice.get("type") not in ("function", "custom", "allowed_tools"):
        raise _unsupported(
            'tool_choice must be "auto", "none", "required", or name a function.', "tool_choice"
        )


def refuse_function_turns(draft: Draft) -> None:
    """Rejects calls and results of OpenAI's API before tools, which vLLM drops."""
    for index, message in enumerate(draft.objects("messages")):
        if message.get("role") == "function" or message.get("function_call") is not None:
            raise _unsupported(
                f"messages[{index}] has a function call of OpenAI's former API, which is not "
                "supported: send tool_calls and messages of the role tool instead.",
                "messages",
            )


def refuse_spoken_turns(draft: Draft) -> None:
    """Rejects answers of OpenAI's models that are audio, known by an id alone, which vLLM drops."""
    for index, message in enumerate(draft.objects("messages")):
        if message.get("role") == "assistant" and message.get("audio") is not None:
            raise _unsupported(
                f"messages[{index}].audio is not supported: send what was said as content.",
                "messages",
            )


def refuse_best_of(draft: Draft) -> None:
    """Rejects answers that are generated to be thrown away."""
    best_of, n = draft.fields.get("best_of"), draft.fields.get("n", 1)
    if type(best_of) is int and type(n) is int and best_of > n:
        raise _unsupported("best_of is not supported: send n, and choose among them.", "best_of")


def refuse_system_blocks(draft: Draft) -> None:
    """Rejects blocks of Anthropic's `system` that are no text, which vLLM drops."""
    for index, block in enumerate(objects_in(draft.fields.get("system"))):
        if block.get("type", "text") != "text":
            raise _unsupported(
                f"system[{index}] is not of the type text, the only one supported.", "system"
            )


def refuse_empty(field: str) -> Callable[[Draft], None]:
    """Returns the rule that rejects a list of no messages, items or prompts."""

    def rule(draft: Draft) -> None:
        if draft.fields.get(field) == []:
            raise InvalidRequest(
                f"{field} must not be empty: send at least one.", param=field, code="empty_array"
            )

    return rule


def refuse_numbers(draft: Draft) -> None:
    """Rejects integers that take more than 64 bits and infinite parameters of sampling: vLLM passes
    them on to where they fail."""
    for name, value in draft.fields.items():
        has_some = name in _INTEGERS
        for number in _within(value) if has_some or name == "vllm_xargs" else (value,):
            if has_some and type(number) is str and _LONG(number):
                number = int(number[:32])
            if type(number) is int and not -(2**63) <= number < 2**63:
                raise InvalidRequest(
                    f"Integers in {name} must have at most 64 bits."
                    if type(value) in (dict, list)
                    else f"{name} must be an integer of 64 bits.",
                    name,
                )
            if name in _SAMPLING and type(number) is float and not math.isfinite(number):
                raise InvalidRequest(f"{name} must be a finite number.", name)


def _within(value: Any) -> Iterator[Any]:
    """Yields a value, or the keys and values in an object and what is in a list."""
    pending = [value]
    while pending:
        one = pending.pop()
        if type(one) is dict:
            pending += one.keys()
            pending += one.values()
        elif type(one) is list:
            pending += one
        else:
            yield one


def _unsupported(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsupported_parameter")
