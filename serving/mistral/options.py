"""Rules for options that the engine would reject or misread with a Mistral tokenizer."""

from collections.abc import Callable, Mapping
from typing import Any

from serving.mistral.draft import Draft, objects_in
from serving.mistral.rules import InvalidRequest

_EFFORTS_REFUSED = ("minimal", "low", "medium", "xhigh", "max")
"""Levels that OpenAI and Anthropic define and vLLM rejects. It accepts "none" and "high", without
any effect before tokenizer v15."""

_EFFORTS = ("none", "high", *_EFFORTS_REFUSED)

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


def refuse_unknown_effort(name: str) -> Callable[[Draft], None]:
    """Returns the rule that rejects an effort that no API defines. A dot leads into an object."""

    def rule(draft: Draft) -> None:
        effort = _value(draft, name)
        if effort is not None and effort not in _EFFORTS:
            raise InvalidRequest(
                f"{name} must be one of {', '.join(_EFFORTS)}.",
                param=name.split(".")[0],
                code="invalid_value",
            )

    return rule


def drop_reasoning_effort(draft: Draft) -> None:
    """Drops levels that vLLM rejects: with the tokenizers here all levels give the same prompt."""
    if draft.fields.get("reasoning_effort") in _EFFORTS_REFUSED:
        draft.drop("reasoning_effort")
        draft.warn(_EFFORT_WARNING)


def drop_anthropic_thinking(draft: Draft) -> None:
    """Drops `thinking` and `output_config.effort`: vLLM turns them into a reasoning effort or a
    budget that it then rejects."""
    if type(draft.fields.get("thinking")) is dict:
        draft.drop("thinking")
        draft.warn("thinking has no effect on this model and was dropped")
    for config in objects_in([draft.fields.get("output_config")]):
        if config.get("effort") in _EFFORTS_REFUSED:
            del config["effort"]
            draft.changed = True
            draft.warn(_EFFORT_WARNING)


_NOTHING_ASKED: tuple[Any, ...] = (False, "", [], {}, "medium", "none", "standard")
"""Values that ask for nothing special; among them levels of verbosity and effort, and a mode."""

_OF_VLLM: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "thinking_token_budget": ((-1,), "no limit on thinking alone: send max_tokens"),
    "include_reasoning": ((True,), "no effect: reasoning_format says where reasoning stands"),
    "watermarking": ((False,), "no effect on this model"),
    "request_id": ((), "no effect: send the header x-request-id"),
    "return_prompt_text": ((False,), "no effect: return_token_ids has the prompt's tokens"),
    "stream_interval": ((1,), "no effect: each chunk is sent at once"),
}
OF_VLLM = tuple(_OF_VLLM)
"""vLLM's own fields that nothing here heeds, for `warn_of_no_effect`."""


def warn_of_no_effect(*names: str) -> Callable[[Draft], None]:
    """Returns the rule that warns of fields that nothing here heeds, and whose effect a client may
    miss. A dot leads into an object."""

    def rule(draft: Draft) -> None:
        for name in names:
            value = _value(draft, name)
            harmless, effect = _OF_VLLM.get(name, (_NOTHING_ASKED, "no effect on this model"))
            if value is not None and value not in harmless:
                draft.warn(f"{name} has {effect}")

    return rule


def warn_of_other_names(names: Mapping[str, str]) -> Callable[[Draft], None]:
    """Returns the rule that warns of fields that only other APIs heed. `names` has what to send
    instead."""

    def rule(draft: Draft) -> None:
        for name, own in names.items():
            if draft.fields.get(name, False) not in _NOTHING_ASKED:
                draft.warn(f"{name} has no effect: send {own}")

    return rule


def _value(draft: Draft, name: str) -> Any:
    value: Any = draft.fields
    for key in name.split("."):
        value = value.get(key) if type(value) is dict else None
    return value


def move_output_format(draft: Draft) -> None:
    """Moves `output_format`, a former name of Anthropic's `output_config.format`, which vLLM would
    drop."""
    config = draft.fields.get("output_config", {})
    if "output_format" in draft.fields and type(config) is dict:
        draft.set("output_config", {"format": draft.fields["output_format"], **config})
        draft.drop("output_format")


def drop_includes_of_hosted_tools(draft: Draft) -> None:
    """Drops what a search would add to a response: there is none, and vLLM rejects it."""
    include = draft.fields.get("include")
    if type(include) is list and any(map(_is_of_search, include)):
        draft.set("include", [value for value in include if not _is_of_search(value)])


def _is_of_search(value: Any) -> bool:
    return type(value) is str and value.startswith("web_search_call.")


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
