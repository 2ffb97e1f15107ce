"""Rules for options that the engine would reject or misread with a Mistral tokenizer."""

from collections.abc import Callable

from serving.mistral.draft import Draft, objects_in
from serving.mistral.rules import InvalidRequest

_EFFORTS_REFUSED = ("minimal", "low", "medium", "xhigh", "max")
"""Levels that OpenAI and Anthropic define and vLLM rejects. It accepts "none" and "high", without
any effect before tokenizer v15."""

_TOOL_CALLS_TOKEN = "9"
"""The id of [TOOL_CALLS] in every tekken.json of version 7."""

_EFFORT_WARNING = "the reasoning effort has no effect on this model and was dropped"


def clamp_max_tokens(*names: str) -> Callable[[Draft], None]:
    """Returns the rule that caps those fields at the context length.

    vLLM rejects a limit above the context length, and caps one that equals it at what the prompt
    leaves, so that clients which mean "no limit" (the model cards send 131072) are served.
    """

    def clamp(draft: Draft) -> None:
        limit = draft.rules.context_tokens
        for name in names:
            value = draft.fields.get(name)
            if type(value) is str and value.isdecimal() and len(value) < 20:
                value = int(value)
            if isinstance(value, int | float) and value > limit:
                draft.set(name, limit)
                draft.max_tokens_clamped = limit

    return clamp


def default_max_tokens(*names: str) -> Callable[[Draft], None]:
    """Returns the rule that sets the first of those fields if none is present and the model has a
    limit below its context length. Any default of vLLM's own would also cap its clients' limits."""

    def set_default(draft: Draft) -> None:
        limit = draft.rules.max_tokens
        if limit is None or limit >= draft.rules.context_tokens:
            return
        if all(draft.fields.get(name) is None for name in names):
            draft.set(names[0], limit)

    return set_default


def default_sampling(draft: Draft) -> None:
    for name, value in draft.rules.sampling.items():
        if draft.fields.get(name) is None:
            draft.set(name, value)


def refuse_chat_template(draft: Draft) -> None:
    """Rejects a chat template: it asks for a different prompt than the tokenizer can make, and
    dropping it would change the request's meaning."""
    if draft.fields.get("chat_template") is not None:
        raise InvalidRequest(
            "Mistral's tokenizer makes this model's prompts and accepts no chat template. "
            "Leave chat_template out, or send a finished prompt to /v1/completions.",
            param="chat_template",
            code="unsupported_parameter",
        )


def drop_template_arguments(draft: Draft) -> None:
    """Drops arguments of chat templates (`enable_thinking` and the like, documents): Mistral's
    tokenizer has no template that could read them."""
    for name in ("chat_template_kwargs", "documents"):
        if draft.fields.get(name) is not None:
            draft.drop(name)
            draft.warn(f"{name} has no effect on this model and was dropped")


def drop_reasoning_effort(draft: Draft) -> None:
    """Drops levels that vLLM rejects: with the tokenizers here all levels give the same prompt."""
    if draft.fields.get("reasoning_effort") in _EFFORTS_REFUSED:
        draft.drop("reasoning_effort")
        draft.warn(_EFFORT_WARNING)


def drop_anthropic_thinking(draft: Draft) -> None:
    """Drops `thinking` and `output_config.effort`: vLLM turns them into a reasoning effort or a
    budget that it then rejects."""
    for thinking in objects_in([draft.fields.get("thinking")]):
        if thinking.get("type") in ("enabled", "disabled"):
            draft.drop("thinking")
            draft.warn("thinking has no effect on this model and was dropped")
    for config in objects_in([draft.fields.get("output_config")]):
        if config.get("effort") in _EFFORTS_REFUSED:
            del config["effort"]
            draft.changed = True
            draft.warn(_EFFORT_WARNING)


def drop_empty_tools(draft: Draft) -> None:
    """Drops an empty list of tools and a choice among none: vLLM rejects them, and clients send
    both."""
    if draft.fields.get("tools") == []:
        draft.drop("tools")
    if draft.fields.get("tools") is None and draft.fields.get("tool_choice") in ("auto", "none"):
        draft.drop("tool_choice")


def name_tool_choice(draft: Draft) -> None:
    """Maps Mistral's "any" to OpenAI's "required", and remembers whether a tool is chosen by
    name."""
    choice = draft.fields.get("tool_choice")
    if choice == "any":
        draft.set("tool_choice", "required")
    draft.named_tool = type(choice) is dict


def drop_tools_if_none_may_be_called(draft: Draft) -> None:
    """Drops the tools of a request with the choice "none" under tokenizer v7: vLLM would not keep
    the model from calling one, and its raw [TOOL_CALLS] would be the answer. From v11 on a grammar
    prevents calls, and the tools stay in the prompt."""
    choice = draft.fields.get("tool_choice")
    if draft.rules.tokenizer == "v7" and (choice == "none" or choice == {"type": "none"}):
        draft.drop("tools", "tool_choice", "parallel_tool_calls")


def ban_calls_if_none_may_be_called(draft: Draft) -> None:
    """Bans calls that dropping the tools does not exclude: those of tools in earlier turns. vLLM
    would return such a call as text or, streamed, as nothing at all."""
    if draft.rules.tokenizer == "v7" and draft.fields.get("tool_choice") == "none":
        bias = draft.fields.get("logit_bias")
        if bias is None or type(bias) is dict:
            draft.set("logit_bias", {**(bias or {}), _TOOL_CALLS_TOKEN: -100})


def take_reasoning_format(draft: Draft) -> None:
    """Takes out `reasoning_format`, this service's own field, which the engine does not know."""
    if "reasoning_format" not in draft.fields:
        return
    value = draft.fields["reasoning_format"]
    draft.drop("reasoning_format")
    if value == "content" or value == "separate":
        draft.reasoning = value
    elif value is not None:
        raise InvalidRequest(
            'reasoning_format must be "content" (<think> text stays in the answer) or "separate" '
            "(it goes to the field reasoning).",
            param="reasoning_format",
            code="invalid_value",
        )


def allow_false_as_repetition_detection(draft: Draft) -> None:
    """Accepts `false`, which turns the loop guard off as settings without a pattern do; vLLM
    accepts only settings."""
    if draft.fields.get("repetition_detection") is False:
        draft.set("repetition_detection", {"max_pattern_size": 0})
