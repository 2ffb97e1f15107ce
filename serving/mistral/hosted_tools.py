"""Handles tools that only OpenAI's or Anthropic's own service can run, where the model can do
without them: coding agents offer some with every request, beside tools of their own."""

from typing import Any

from serving.mistral.draft import Draft

_OFFERED = ("web_search", "web_fetch", "image_generation", "tool_search_tool", "tool_search")
"""Hosted tools that agents offer and can do without. Anthropic's have a date behind these names.
Others (`mcp`, `file_search`, …) hold what the client wants used, and are rejected."""

_OWN = (None, "function", "custom", "namespace")


def leave_out(draft: Draft) -> None:
    """Leaves out hosted tools that stand beside tools of the client's own. Without those, the
    client wants the hosted tool, and another rule rejects it."""
    tools = draft.objects("tools")
    if not any(tool.get("type") in _OWN for tool in tools):
        return
    kinds = [known_name(tool.get("type"), _OFFERED) for tool in tools]
    if not any(kinds):
        return
    draft.set("tools", [tool for tool, kind in zip(tools, kinds, strict=True) if kind is None])
    _leave_out_of_allowed(set(kinds), draft)
    for kind in dict.fromkeys(kinds):
        if kind is not None:
            draft.warn(f"{kind} was left out of tools: this service does not run it")


def _leave_out_of_allowed(kinds: set[str | None], draft: Draft) -> None:
    """Leaves those tools out of a choice among allowed tools, which may name only tools of the
    request."""
    choice: Any = draft.fields.get("tool_choice")
    if type(choice) is dict and type(choice.get("tools")) is list:
        choice["tools"] = [
            tool
            for tool in choice["tools"]
            if type(tool) is not dict
            or (kind := known_name(tool.get("type"), _OFFERED)) is None
            or kind not in kinds
        ]


def known_name(name: Any, known: tuple[str, ...]) -> str | None:
    """Returns the one of the known names that a name is, or begins with before an underscore."""
    if type(name) is not str:
        return None
    return next((one for one in known if name == one or name.startswith(one + "_")), None)
