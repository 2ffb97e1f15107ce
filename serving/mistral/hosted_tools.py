"""Handles tools that only OpenAI's or Anthropic's own service can run, where the model can do
without them: coding agents offer some with every request, beside tools of their own."""

from typing import Any

from serving.mistral.draft import Draft, objects_in

_OFFERED = ("web_search", "web_fetch", "image_generation", "tool_search_tool")
"""Hosted tools that agents offer and can do without. Anthropic's have a date behind these names.
Others (`mcp`, `file_search`, …) hold what the client wants used, and are rejected."""

_OWN = (None, "function", "custom", "namespace")

_SEARCHES = ("web_search", "tool_search_tool")
_RESULTS = tuple(f"{name}_tool_result" for name in ("web_search", "tool_search"))


def leave_out(draft: Draft) -> None:
    """Leaves out hosted tools that stand beside tools of the client's own. Without those, the
    client wants the hosted tool, and another rule rejects it."""
    tools = draft.objects("tools")
    if not any(tool.get("type") in _OWN for tool in tools):
        return
    kinds = [_known(tool.get("type"), _OFFERED) for tool in tools]
    if not any(kinds):
        return
    draft.set("tools", [tool for tool, kind in zip(tools, kinds, strict=True) if kind is None])
    for kind in dict.fromkeys(kinds):
        if kind is not None:
            draft.warn(f"{kind} was left out of tools: this service does not run it")


def drop_searches_of_earlier_turns(draft: Draft) -> None:
    """Drops searches that OpenAI's or Anthropic's service made in earlier turns: what they found is
    not in the request, or encrypted. The model's words about it stay."""
    items = draft.objects("input")
    kept = [item for item in items if item.get("type") != "web_search_call"]
    draft.replace("input", kept)
    dropped = len(kept) < len(items)
    for message in draft.objects("messages"):
        content: Any = message.get("content")
        if message.get("role") == "assistant" and any(map(_is_search, objects_in(content))):
            message["content"] = [block for block in content if not _is_search(block)]
            draft.changed = dropped = True
    if dropped:
        draft.warn("searches of earlier turns were dropped: their results cannot be read here")


def _is_search(block: Any) -> bool:
    if type(block) is not dict:
        return False
    if block.get("type") == "server_tool_use":
        return _known(block.get("name"), _SEARCHES) is not None
    return block.get("type") in _RESULTS


def _known(name: Any, known: tuple[str, ...]) -> str | None:
    """Returns the one of the known names that a name is, or begins with before an underscore."""
    if type(name) is not str:
        return None
    return next((one for one in known if name == one or name.startswith(one + "_")), None)
