"""Converts a client's request to one that the model's tokenizer accepts."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import is_
from typing import Any, Literal

from serving.mistral import (
    anthropic_turns,
    hosted_blocks,
    hosted_items,
    hosted_tools,
    images,
    input_items,
    mistral_api,
    nulls,
    options,
    other_servers,
    refusals,
    schemas,
    system_prompt,
    tool_choice,
    tool_ids,
    tool_names,
    tool_schemas,
    turns,
)
from serving.mistral.answer import AnswerRules
from serving.mistral.draft import Draft
from serving.mistral.rules import ModelRules

Rule = Callable[[Draft], None]

Rewrite = Literal["normalised", "max_tokens_clamped", "warned"]
"""How a request was changed:

- normalised: it was read as a different body of the same meaning.
- max_tokens_clamped: the limit on the answer was lowered.
- warned: something was dropped or moved, or has no effect, and the client was told.
"""

WARNINGS = b"x-request-warnings"
"""Response header: what was dropped or moved, where OpenAI's service would not have."""


def on_other_servers(*rules: Rule) -> Rule:
    """Returns the rule that applies `rules` where another server runs the model: our engines do the
    same as they read a request or constrain its answer."""

    def rule(draft: Draft) -> None:
        if draft.rules.other_server:
            for one in rules:
                one(draft)

    return rule


def on_own_engines(rule: Rule) -> Rule:
    """Returns the rule that applies where no other server runs the model."""

    def own(draft: Draft) -> None:
        if not draft.rules.other_server:
            rule(draft)

    return own


_CHAT: tuple[Rule, ...] = (
    nulls.drop_null_fields,
    nulls.drop_nulls_in("messages", "name", "prefix"),
    nulls.drop_nulls_in("tools", "type"),
    refusals.refuse(refusals.CHAT),
    on_own_engines(refusals.refuse(refusals.OTHER_ENGINES)),
    refusals.refuse_tools_except("function", "custom"),
    on_other_servers(refusals.refuse_tools_except("function")),
    refusals.refuse_function_turns,
    refusals.refuse_spoken_turns,
    refusals.refuse_best_of,
    refusals.refuse_empty("messages"),
    mistral_api.rename_random_seed,
    mistral_api.ignore_prompt_settings,
    mistral_api.continue_prefix,
    options.refuse_chat_template,
    options.drop_template_arguments,
    options.refuse_unknown_effort("reasoning_effort"),
    options.drop_reasoning_effort,
    options.take_reasoning_format,
    options.allow_false_as_repetition_detection,
    on_other_servers(options.default_sampling, other_servers.raise_top_p_of_zero),
    options.clamp_max_tokens("max_tokens", "max_completion_tokens"),
    options.warn_of_other_names({"max_output_tokens": "max_completion_tokens"}),
    options.default_max_tokens("max_tokens", "max_completion_tokens"),
    on_other_servers(other_servers.use_max_tokens),
    options.warn_of_no_effect(
        "verbosity", *options.OF_VLLM, "structured_outputs.whitespace_pattern"
    ),
    refusals.refuse_numbers,
    tool_choice.reduce_to_allowed_tools,
    on_other_servers(tool_choice.ban_calls_if_none_may_be_called),
    tool_choice.drop_empty_tools,
    tool_choice.rename_any_choice,
    on_other_servers(other_servers.require_named_tool),
    tool_choice.drop_tools_if_none_may_be_called,
    schemas.mend,
    tool_schemas.refuse_other_than_objects,
    on_other_servers(tool_schemas.relax_texts),
    on_other_servers(other_servers.expect_calls),
    on_other_servers(tool_schemas.identify_schemas),
    tool_schemas.warn_of_lark_grammars,
    images.limit("messages"),
    images.drop_uuids("messages"),
    turns.developer_is_system,
    turns.image_urls_and_refusals,
    turns.calls_of_earlier_turns,
    turns.tool_results,
    turns.drop_redacted_thoughts,
    turns.reasoning_of_earlier_turns,
    turns.drop_empty_turns,
    turns.move_late_system_messages,
    turns.results_follow_their_calls,
    turns.images_of_results,
    turns.continue_last_answer,
    on_other_servers(other_servers.join_texts, other_servers.join_user_turns),
    tool_ids.rewrite("messages", tool_ids.in_chat_message),
    tool_names.shorten(tool_names.in_chat),
    system_prompt.add_message,
)
_ANTHROPIC: tuple[Rule, ...] = (
    nulls.drop_null_fields,
    refusals.refuse(refusals.MESSAGES),
    hosted_tools.leave_out,
    hosted_blocks.replace_by_summary,
    hosted_blocks.convert_hosted_blocks,
    refusals.refuse_tools_except("custom"),
    refusals.refuse_system_blocks,
    refusals.refuse_empty("messages"),
    options.drop_template_arguments,
    options.refuse_unknown_effort("output_config.effort"),
    options.drop_anthropic_thinking,
    options.move_output_format,
    on_other_servers(options.default_sampling, other_servers.raise_top_p_of_zero),
    options.clamp_max_tokens("max_tokens"),
    options.warn_of_other_names({"stop": "stop_sequences"}),
    options.warn_of_no_effect("context_management", "fallbacks", "output_config.task_budget"),
    refusals.refuse_numbers,
    tool_choice.refuse_choice_without_tool,
    tool_choice.drop_empty_tools,
    tool_choice.drop_tools_if_none_may_be_called,
    schemas.mend,
    tool_schemas.refuse_other_than_objects,
    on_other_servers(tool_schemas.relax_texts),
    on_other_servers(tool_schemas.identify_schemas),
    images.limit("messages"),
    images.drop_uuids("messages"),
    anthropic_turns.drop_thinking_and_empty_turns,
    anthropic_turns.warn_of_late_system_turns,
    tool_ids.rewrite("messages", tool_ids.in_anthropic_message),
    tool_names.shorten(tool_names.in_anthropic),
    system_prompt.add_field("system", "messages"),
)
_RESPONSES: tuple[Rule, ...] = (
    nulls.drop_null_fields,
    nulls.drop_nulls_in_items,
    refusals.refuse(refusals.RESPONSES),
    on_own_engines(refusals.refuse(refusals.OTHER_ENGINES)),
    hosted_items.offer_tools_of_items,
    hosted_tools.leave_out,
    hosted_items.convert_hosted_items,
    refusals.refuse_tools_except("function", "custom", "namespace"),
    refusals.refuse_hosted_choice,
    on_other_servers(options.drop_includes_of_hosted_tools),
    refusals.refuse_empty("input"),
    options.refuse_unknown_effort("reasoning.effort"),
    on_other_servers(options.default_sampling, other_servers.raise_top_p_of_zero),
    options.clamp_max_tokens("max_output_tokens"),
    options.warn_of_other_names(
        {
            **dict.fromkeys(("max_tokens", "max_completion_tokens"), "max_output_tokens"),
            "logprobs": 'include with "message.output_text.logprobs"',
        }
    ),
    options.default_max_tokens("max_output_tokens"),
    options.warn_of_no_effect(
        "text.verbosity",
        "reasoning.effort",
        "reasoning.mode",
        "context_management",
        "personality",
        "structured_outputs.whitespace_pattern",
    ),
    refusals.refuse_numbers,
    tool_choice.reduce_to_allowed_tools,
    on_other_servers(tool_choice.ban_calls_if_none_may_be_called),
    tool_choice.drop_tools_if_none_may_be_called,
    schemas.mend,
    tool_schemas.refuse_other_than_objects,
    on_other_servers(tool_schemas.relax_texts),
    tool_schemas.warn_of_lark_grammars,
    images.limit("input"),
    images.drop_uuids("input"),
    input_items.normalise_items,
    tool_ids.rewrite("input", tool_ids.in_response_item),
    on_other_servers(tool_names.shorten(tool_names.in_response)),
    system_prompt.add_field("instructions", "input"),
)
RULES: dict[str, tuple[Rule, ...]] = {
    "/v1/chat/completions": _CHAT,
    "/tokenize": _CHAT,
    "/v1/completions": (
        nulls.drop_null_fields,
        refusals.refuse(refusals.COMPLETIONS),
        on_own_engines(refusals.refuse(refusals.OTHER_ENGINES)),
        refusals.refuse_best_of,
        refusals.refuse_empty("prompt"),
        mistral_api.rename_random_seed,
        options.allow_false_as_repetition_detection,
        options.default_sampling,
        on_other_servers(other_servers.raise_top_p_of_zero),
        options.clamp_max_tokens("max_tokens"),
        options.warn_of_other_names(
            dict.fromkeys(("max_completion_tokens", "max_output_tokens"), "max_tokens")
        ),
        options.warn_of_no_effect(*options.OF_VLLM, "structured_outputs.whitespace_pattern"),
        refusals.refuse_numbers,
        schemas.mend,
    ),
    "/v1/responses": _RESPONSES,
    "/v1/messages": (*_ANTHROPIC, refusals.refuse(refusals.COMPACTION)),
    "/v1/responses/input_tokens": _RESPONSES,
    "/v1/messages/count_tokens": _ANTHROPIC,
}
"""The rules of each endpoint, in the order in which they are applied. A chat and its /tokenize
count give the same prompt because they share their rules."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """The result of normalising a request."""

    changed: bool = False
    """Whether the body was changed."""
    warnings: tuple[str, ...] = ()
    """What was dropped or moved, where OpenAI's service would not have."""
    max_tokens_clamped: int | None = None
    """The limit on the answer that replaces a higher one."""
    answer: AnswerRules = field(default_factory=AnswerRules)
    numbers: tuple[int | None, ...] = ()
    """Where each of the messages or items stood in the client's list; None for one that a rule has
    made. Empty if all stand there."""

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        rewrites: list[Rewrite] = []
        if self.changed:
            rewrites.append("normalised")
        if self.max_tokens_clamped is not None:
            rewrites.append("max_tokens_clamped")
        if self.warnings:
            rewrites.append("warned")
        return tuple(rewrites)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response headers that tell the client of the changes."""
        headers = []
        if self.max_tokens_clamped is not None:
            headers.append((b"x-max-tokens-clamped", b"%d" % self.max_tokens_clamped))
        if self.warnings:
            headers.append((WARNINGS, "; ".join(self.warnings).encode()))
        return headers


def normalise(
    endpoint: str, body: dict[str, Any], rules: ModelRules, today: datetime.date
) -> Normalised:
    """Applies the rules of `endpoint` (its path) to `body`, in place. A request that the tokenizer
    accepts stays unchanged, and the rules are idempotent. Raises InvalidRequest.

    `body` may be any JSON object; errors beyond the rules are left to the engine.
    """
    draft = Draft(body, rules, today)
    sent = _conversation(body)
    for rule in RULES.get(endpoint, ()):
        rule(draft)
    chat = endpoint == "/v1/chat/completions"
    return Normalised(
        changed=draft.changed,
        warnings=tuple(draft.warnings),
        max_tokens_clamped=draft.max_tokens_clamped,
        answer=AnswerRules(
            separate_reasoning=chat and draft.reasoning == "separate",
            incomplete_calls=chat and draft.incomplete_calls,
            split_reasoning=chat and rules.other_server and rules.thinks,
            originals=draft.originals,
        ),
        numbers=_numbers(sent, _conversation(body)),
    )


def _conversation(body: dict[str, Any]) -> list[Any]:
    """Returns a list of the messages or items in a body."""
    found = body.get("messages", body.get("input"))
    return found.copy() if type(found) is list else []


def _numbers(sent: list[Any], kept: list[Any]) -> tuple[int | None, ...]:
    if len(sent) == len(kept) and all(map(is_, sent, kept)):
        return ()
    places = {id(item): number for number, item in enumerate(sent)}
    return tuple(places.get(id(item)) for item in kept)
