"""Rules for items of /v1/responses that stem from tools of OpenAI's own service: a session that was
begun there has them in its history with every request."""

import json
from typing import Any

from serving.mistral.draft import Draft, Fields, objects_in

_USELESS = (
    "code_interpreter_call",
    "compaction",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "file_search_call",
    "image_generation_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_list_tools",
    "program",
    "program_output",
    "tool_search_call",
    "web_search_call",
)
"""Items that are encrypted, or tell of what ran there: the model's words about it stay."""

_CLIENT_CALLS = ("apply_patch_call", "local_shell_call", "shell_call")
"""Calls that a client has run, whose form only OpenAI's models know."""
_CLIENT_OUTPUTS = tuple(f"{name}_output" for name in _CLIENT_CALLS)

_CALLS = ("function_call", "custom_tool_call")
_WITH_TOOLS = ("additional_tools", "tool_search_output")
_OWN = ("function", "custom", "namespace")


def offer_tools_of_items(draft: Draft) -> None:
    """Adds the tools that searches found, or that the client added later on, to those of the
    request, so that they can be called."""
    items = [item for item in draft.objects("input") if item.get("type") in _WITH_TOOLS]
    tools = draft.fields.get("tools", [])
    if not items or type(tools) is not list:
        return
    added: list[Fields] = []
    known = {name for tool in objects_in(tools) for name in _names(tool)}
    for tool in (tool for item in items for tool in objects_in(item.get("tools"))):
        if tool.get("type") not in _OWN:
            draft.warn("a hosted tool in input was left out: this service does not run it")
            draft.changed = True
            continue
        if tool["type"] == "namespace":
            inner = objects_in(tool.get("tools"))
            tool = {**tool, "tools": [one for one in inner if not _names(one, tool) <= known]}
        if not _names(tool) <= known:
            known |= _names(tool)
            added.append(tool)
    if added:
        draft.set("tools", [*tools, *added])


def _names(tool: Fields, namespace: Fields | None = None) -> set[tuple[str, str]]:
    """Returns what tells a tool, or those of a namespace, from others."""
    if tool.get("type") == "namespace":
        return {name for one in objects_in(tool.get("tools")) for name in _names(one, tool)}
    return {(str((namespace or {}).get("name", "")), str(tool.get("name")))}


def convert_hosted_items(draft: Draft) -> None:
    """Makes function calls of what the model can read, and drops what only OpenAI can."""
    kept: list[Fields] = []
    open_calls: list[Fields] = []  # which their results must follow at once
    dropped: list[str] = []
    call_ids: dict[str, Any] = {}
    for index, item in enumerate(draft.objects("input")):
        kind: Any = item.get("type")
        if kind in _WITH_TOOLS:
            continue
        if kind == "mcp_call":
            kept += _mcp_call(item, index)
        elif kind in _CLIENT_CALLS:
            call = _client_call(item)
            for id in (item.get("id"), call["call_id"]):
                call_ids[str(id)] = call["call_id"]
            open_calls.append(call)
        elif kind in _CALLS:
            open_calls.append(item)
        elif kind in _CLIENT_OUTPUTS and _reference(item) in call_ids:
            output = _output(call_ids[_reference(item)], item.get("output", item.get("status")))
            kept += [*open_calls, output]
            open_calls.clear()
        elif kind in _CLIENT_OUTPUTS or (kind in _USELESS and not _sets_format(item)):
            dropped.append(kind)
        else:
            kept += [*open_calls, item]
            open_calls.clear()
    kept += open_calls
    draft.replace("input", kept)
    for kind in dropped if kept else ():
        draft.warn(f"{kind} of earlier turns was dropped: only OpenAI's service can use it")


def _sets_format(item: Fields) -> bool:
    """Whether an update of the configuration asks for another form of the answer, which may not be
    ignored."""
    return item["type"] == "configuration_update" and "text" in item


def _mcp_call(item: Fields, index: int) -> list[Fields]:
    id = item.get("id") or f"mcp_{index}"
    call = {"name": item.get("name"), "arguments": item.get("arguments", "{}")}
    return [
        {"type": "function_call", "call_id": id, **call},
        _output(id, item.get("output", item.get("error"))),
    ]


def _client_call(item: Fields) -> Fields:
    return {
        "type": "function_call",
        "call_id": item.get("call_id", item.get("id")),
        "name": item["type"].removesuffix("_call"),
        "arguments": _text(item.get("action", item.get("operation", {}))),
    }


def _reference(item: Fields) -> str:
    """Returns the id of the call that an output belongs to, which that of a local shell has as its
    own."""
    return str(item.get("call_id", item.get("id")))


def _output(call_id: Any, output: Any) -> Fields:
    return {"type": "function_call_output", "call_id": call_id, "output": _text(output)}


def _text(value: Any) -> str:
    if value is None or type(value) is str:
        return value or ""
    return json.dumps(value, ensure_ascii=False)
