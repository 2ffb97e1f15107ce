"""Rules for the choice among tools."""

from collections.abc import Mapping
from typing import Any

from serving.mistral.draft import Draft, Fields, objects_in
from serving.mistral.rules import InvalidRequest

_TOOL_CALLS_TOKEN = "9"
"""The id of [TOOL_CALLS] in every tekken.json of version 7."""


def reduce_to_allowed_tools(draft: Draft) -> None:
    """Reduces the tools to those that OpenAI's choice `allowed_tools` names, and the choice to its
    mode: vLLM knows no such choice."""
    choice = draft.fields.get("tool_choice")
    if type(choice) is not dict or choice.get("type") != "allowed_tools":
        return
    allowed = choice.get("allowed_tools", choice)  # the chat API has one object more around it
    if type(allowed) is not dict or allowed.get("mode") not in ("auto", "required"):
        raise _invalid(
            'tool_choice of the type "allowed_tools" needs a mode: "auto" or "required".'
        )
    tools = objects_in(draft.fields.get("tools"))
    named = objects_in(allowed.get("tools"))
    names = {str(name_of(tool)) for tool in named}
    plain = {str(name_of(tool)) for tool in tools}
    inner = {name for tool in tools for one in _inner(tool) for name in _names(one, tool)}
    known = plain | inner
    if not names <= known or not all(type(name_of(tool)) is str for tool in named or [{}]):
        raise _invalid("tool_choice must name at least one tool, and only tools of this request.")
    of_inner = names - plain
    kept = []
    for tool in tools:
        if name_of(tool) in names:
            kept.append(tool)
        elif chosen := [one for one in _inner(tool) if of_inner & _names(one, tool)]:
            kept.append({**tool, "tools": chosen})
    draft.set("tools", kept)
    draft.set("tool_choice", allowed["mode"])


def _inner(tool: Fields) -> list[Fields]:
    """Returns the tools of a namespace; none for any other tool."""
    return objects_in(tool.get("tools")) if tool.get("type") == "namespace" else []


def _names(tool: Fields, namespace: Fields) -> set[str]:
    """Returns the names by which a choice may name a tool of a namespace."""
    return {str(tool.get("name")), f"{namespace.get('name')}__{tool.get('name')}"}


def name_of(tool: Mapping[str, Any]) -> Any:
    """Returns the name of a tool, or of the tool that a choice names, of any API."""
    inner = tool.get("function", tool.get("custom"))
    return (inner if type(inner) is dict else tool).get("name")


def refuse_choice_without_tool(draft: Draft) -> None:
    """Rejects a choice of Anthropic's API that no tool can satisfy: vLLM would ignore it."""
    choice = draft.fields.get("tool_choice")
    if type(choice) is not dict or choice.get("type") not in ("any", "tool"):
        return
    tools = objects_in(draft.fields.get("tools"))
    if not tools:
        raise _invalid("tool_choice requires a call, but the request has no tools.")
    if choice["type"] == "tool" and choice.get("name") not in map(name_of, tools):
        raise _invalid("tool_choice must name one of the tools of this request.")


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="tool_choice")


def drop_empty_tools(draft: Draft) -> None:
    """Drops an empty list of tools and a choice among none: vLLM rejects them, and clients send
    both."""
    if draft.fields.get("tools") == []:
        draft.drop("tools")
    if "tools" in draft.fields:
        return
    if _kind_of(draft.fields.get("tool_choice")) in ("auto", "none"):
        draft.drop("tool_choice")


def _kind_of(choice: Any) -> Any:
    """Returns a choice's kind, which is a field of it in Anthropic's API."""
    return choice.get("type") if type(choice) is dict else choice


def rename_any_choice(draft: Draft) -> None:
    """Maps Mistral's "any" to OpenAI's "required"."""
    if draft.fields.get("tool_choice") == "any":
        draft.set("tool_choice", "required")


def drop_tools_if_none_may_be_called(draft: Draft) -> None:
    """Drops the tools of a request with the choice "none" under tokenizer v7: vLLM would not keep
    the model from calling one, and its raw [TOOL_CALLS] would be the answer. From v11 on a grammar
    prevents calls, and the tools stay in the prompt."""
    if draft.rules.tokenizer == "v7" and _kind_of(draft.fields.get("tool_choice")) == "none":
        draft.drop("tools", "tool_choice", "parallel_tool_calls")


def ban_calls_if_none_may_be_called(draft: Draft) -> None:
    """Bans calls that dropping the tools does not exclude: those of tools in earlier turns. vLLM
    would return such a call as text or, streamed, as nothing at all."""
    if draft.rules.tokenizer == "v7" and draft.fields.get("tool_choice") == "none":
        bias = draft.fields.get("logit_bias")
        if bias is None or type(bias) is dict:
            draft.set("logit_bias", {**(bias or {}), _TOOL_CALLS_TOKEN: -100})
